//! A whole platform for one test, its users, and the check that no work is left at the end.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use standalone::platform::{GatewayAddresses, Platform, Settings};
use testkit::{Client, GATEWAY_KEYS, free_port};
use users::Hashing;

use crate::dependencies::Dependencies;
use crate::echo::Echo;

/// The deadline for what takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) const GATEWAY_CONFIG: &str = include_str!("gateway.yaml");
pub(crate) const PASSWORD: &str = "a river runs through it";

pub(crate) struct TestPlatform {
    pub(crate) platform: Platform,
    pub(crate) echo: Echo,
    pub(crate) dependencies: Dependencies,
    /// Two clients, of one gateway or of two.
    pub(crate) gateways: Vec<Client>,
    check: Check,
}

/// Fails a test that ends without [`TestPlatform::finish`].
#[derive(Default)]
struct Check {
    made: bool,
}

impl Drop for Check {
    fn drop(&mut self) {
        assert!(
            self.made || std::thread::panicking(),
            "a test must end with `finish`"
        );
    }
}

/// A user who is logged in.
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

impl TestPlatform {
    /// Starts a platform with fresh dependencies and two replicas of each worker.
    pub(crate) async fn start() -> Self {
        Self::with(Dependencies::fresh().await, GATEWAY_CONFIG).await
    }

    /// The same with these dependencies and this gateway configuration.
    pub(crate) async fn with(dependencies: Dependencies, gateway_config: &str) -> Self {
        let echo = Echo::start().await;
        let variables = HashMap::from(
            [
                ("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS.to_owned()),
                ("TOKEN_SIGNING_KEYS", format!("t1:{}", "5a".repeat(32))),
                ("DRAIN_LAME_DUCK", "10ms".to_owned()),
                ("SHUTDOWN_GRACE", "5s".to_owned()),
                ("ECHO", echo.address().to_string()),
                ("REDIS_URL", dependencies.redis_url()),
                ("GATEWAYS", dependencies.gateways().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let address = || ([127, 0, 0, 1], free_port()).into();
        let gateway = || GatewayAddresses {
            http: address(),
            admin: address(),
        };
        let settings = Settings {
            backend: dependencies.backend(),
            variables,
            replicas: 2,
            gateway_config: gateway_config.to_owned(),
            gateways: (0..dependencies.gateways()).map(|_| gateway()).collect(),
            // Cheap, because debug builds hash slowly.
            hashing: Hashing {
                memory_kib: 64,
                iterations: 1,
                ..Hashing::default()
            },
        };
        let patience = Duration::from_secs(60);
        let platform = Platform::start(settings, patience)
            .await
            .expect("the platform gets ready");
        let url = |gateway: &GatewayAddresses| format!("http://{}", gateway.http);
        let gateways = platform.gateways.iter().cycle().take(2);
        let gateways = gateways.map(url).map(Client::new).collect();
        Self {
            platform,
            echo,
            dependencies,
            gateways,
            check: Check::default(),
        }
    }

    /// The first gateway.
    pub(crate) fn http(&self) -> &Client {
        &self.gateways[0]
    }

    pub(crate) async fn user(&self) -> User {
        let email = format!("{}@example.com", testkit::unique("user"));
        let credentials = json!({"email": email, "password": PASSWORD});
        let mut account = credentials.clone();
        account["name"] = json!("Ada");
        let http = self.http();
        http.post("/api/users/register")
            .json(&account)
            .send()
            .await
            .expect(201);
        let login = http
            .post("/api/users/login")
            .json(&credentials)
            .send()
            .await
            .expect(200)
            .json();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        User {
            id: text(&login["user"]["id"]),
            email,
            token: text(&login["access_token"]),
            refresh_token: text(&login["refresh_token"]),
        }
    }

    /// Every test ends with this: nothing is left to publish or to consume, nothing was dead-lettered, and
    /// gateways and workers stop without an error.
    pub(crate) async fn finish(mut self) {
        self.check.made = true;
        self.dependencies.drained().await;
        self.platform
            .stop()
            .await
            .expect("gateways and workers stop without an error");
        self.dependencies.is_empty().await;
    }
}
