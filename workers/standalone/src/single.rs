//! The whole platform as one process, with its data in files: what `make run` starts. It only composes
//! the platform; the binary calls it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use runtime::supervise::CancellationToken;

use crate::home::DataFolder;
use crate::platform::{Backend, Embedded, GatewayAddresses, Platform, Settings};

/// The gateway's configuration, unless the options name another.
const GATEWAY_CONFIG: &str = include_str!("../gateway.yaml");
/// Enough for a very slow machine; an idle one needs a fraction of a second.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// The options of the command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the platform listens.
    #[arg(
        long,
        env = "LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// Where the gateway reports its state: /livez, /readyz, /metrics, /status. Never public.
    #[arg(
        long,
        env = "ADMIN_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9001"
    )]
    pub admin: SocketAddr,
    /// The folder of the data and the keys. It is created if it is missing.
    #[arg(
        long,
        env = "DATA_DIR",
        value_name = "FOLDER",
        default_value = ".run/standalone"
    )]
    pub data: PathBuf,
    /// How many requests a user may send: N/s, N/min or N/h.
    #[arg(long, env = "RATE", value_name = "N/TIME", default_value = "100/s")]
    pub rate: String,
    /// How many requests a user may send at once.
    #[arg(long, env = "BURST", value_name = "N", default_value = "200")]
    pub burst: String,
    /// Another configuration of the gateway (`print-config` shows the one that is built in).
    #[arg(long, env = "GATEWAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is logged, as JSON lines on standard error: an EnvFilter directive.
    #[arg(
        long,
        env = "LOG",
        value_name = "FILTER",
        default_value = "warn,pingora_proxy=off"
    )]
    pub log: String,
    /// The share of requests that get a line in the access log, 0 to 1.
    #[arg(
        long,
        env = "ACCESS_LOG_SAMPLE",
        value_name = "SHARE",
        default_value = "0.0"
    )]
    pub access_log_sample: String,
    /// A file that says what runs, for `make status` and `make down`.
    #[arg(long, env = "RUN_FILE", value_name = "FILE", hide = true)]
    pub run_file: Option<PathBuf>,
}

/// The built-in configuration of the gateway.
pub fn config() -> &'static str {
    GATEWAY_CONFIG
}

/// The platform in one process, after its start.
pub struct Standalone {
    platform: Platform,
    startup: Duration,
    options: Options,
    _note: Option<RunNote>,
    /// Dropped last, so that the folder stays locked until everything has ended.
    _data_folder: DataFolder,
}

impl Standalone {
    /// Starts everything, and returns when it is ready.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let began = Instant::now();
        let data_folder = DataFolder::lock(&options.data)?;
        let gateway_config = match &options.config {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?,
            None => GATEWAY_CONFIG.to_owned(),
        };
        let settings = Settings {
            backend: Backend::Embedded(Arc::new(Embedded::open(data_folder.folder())?)),
            variables: variables(&options, &data_folder)?,
            replicas: 1,
            gateway_config,
            gateways: vec![GatewayAddresses {
                http: options.listen,
                admin: options.admin,
            }],
            hashing: users::Hashing::default(),
        };
        let platform = Platform::start(settings, START_DEADLINE).await?;
        let note = options.run_file.as_deref();
        let note = note
            .map(|file| RunNote::write(file, &options))
            .transpose()?;
        Ok(Self {
            platform,
            startup: began.elapsed(),
            options,
            _note: note,
            _data_folder: data_folder,
        })
    }

    /// The text that is printed after the start: addresses, and commands to paste.
    pub fn banner(&self) -> String {
        let url = |address| format!("http://{}", runtime::process::reachable(address));
        let (edge, admin) = (url(self.options.listen), url(self.options.admin));
        format!(
            "Sluice is ready ({:.2} s).
  platform    {edge}
  admin       {admin}   (/status, /metrics, /readyz)
  data        {}

Try it, in another terminal:
  curl -i {edge}/api/users/register -H 'content-type: application/json' \\
    -d '{{\"email\":\"ada@example.org\",\"password\":\"correct horse battery\",\"name\":\"Ada\"}}'
  make demo

Ctrl-C ends it; nothing is lost.",
            self.startup.as_secs_f64(),
            self.options.data.display(),
        )
    }

    /// Serves until `shutdown`, then drains. Fails if a worker or a gateway ends before that.
    pub async fn serve(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            error = self.platform.part_ended() => Some(error),
        };
        let stopped = self.platform.stop().await;
        failed.map_or(stopped, Err)
    }
}

/// A file of shell assignments that exists while this process serves.
struct RunNote(PathBuf);

impl RunNote {
    fn write(file: &Path, options: &Options) -> anyhow::Result<Self> {
        let url = |address| format!("http://{}", runtime::process::reachable(address));
        let text = format!(
            "PID='{}'\nEDGE_URL='{}'\nADMIN_URL='{}'\n",
            std::process::id(),
            url(options.listen),
            url(options.admin),
        );
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for RunNote {
    fn drop(&mut self) {
        // A file that is left behind names a process that is gone; its readers check the process.
        std::fs::remove_file(&self.0).ok();
    }
}

/// The variables for the workers and for the gateway's configuration: the options and the keys, and
/// otherwise this process's environment, from which a custom configuration may use more.
fn variables(
    options: &Options,
    data_folder: &DataFolder,
) -> anyhow::Result<HashMap<String, String>> {
    let mut variables: HashMap<String, String> = std::env::vars().collect();
    let given = [
        ("RATE", options.rate.clone()),
        ("BURST", options.burst.clone()),
        ("ACCESS_LOG_SAMPLE", options.access_log_sample.clone()),
        ("LISTEN", options.listen.to_string()),
        // There is no load balancer that must notice the drain first.
        ("DRAIN_LAME_DUCK", "0ms".to_owned()),
    ];
    variables.extend(given.map(|(name, value)| (name.to_owned(), value)));
    variables.extend([data_folder.signing_keys()?, data_folder.token_keys()?]);
    Ok(variables)
}
