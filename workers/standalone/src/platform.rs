//! Runs gateways and workers in one process.
//!
//! Each of them starts exactly as its own binary starts it, and they communicate over sockets. None may
//! depend on being in the same process. `standalone` and the end-to-end tests call it.

mod backend;

pub use backend::{Backend, Embedded};

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use gateway::Stop;
use runtime::client::Client;
use runtime::env::{Strings, Vars};
use runtime::process::Settings as WorkerSettings;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use users::Credentials;
use users::tokens::{TokenKeys, Tokens};

/// What to start, and with which configuration.
pub struct Settings {
    pub backend: Backend,
    /// The environment variables of workers and gateways: the keys, the durations of the drain, and those
    /// that the gateways' configuration names.
    pub variables: HashMap<String, String>,
    /// How many replicas of each worker.
    pub replicas: usize,
    /// The gateways' configuration file. Besides `variables` it may name each gateway's own
    /// `GATEWAY_LISTEN` and `GATEWAY_ADMIN`, and the workers' addresses: `USER_WORKER_1` and so on.
    pub gateway_config: String,
    pub gateways: Vec<GatewayAddresses>,
    /// The cost of hashing passwords.
    pub hashing: users::Hashing,
}

/// The addresses that a gateway listens on.
#[derive(Debug, Clone, Copy)]
pub struct GatewayAddresses {
    pub http: SocketAddr,
    pub admin: SocketAddr,
}

/// A running platform. [`Platform::stop`] drains it and waits; dropping it only starts the shutdown.
pub struct Platform {
    pub gateways: Vec<GatewayAddresses>,
    pub user_workers: Vec<SocketAddr>,
    pub task_workers: Vec<SocketAddr>,
    pub notification_workers: Vec<SocketAddr>,
    workers: JoinSet<anyhow::Result<()>>,
    stop_workers: CancellationToken,
    gateway_threads: Vec<JoinHandle<()>>,
    stop_gateways: CancellationToken,
    /// Cancelled when the first gateway has ended.
    gateway_ended: CancellationToken,
}

impl Settings {
    /// The settings that each worker's own binary reads from its environment.
    fn workers(&self) -> anyhow::Result<(WorkerSettings, Credentials, u64)> {
        let mut vars = Vars::new(&self.variables);
        let settings = WorkerSettings::read(&mut vars, 0);
        let keys = vars.required("TOKEN_SIGNING_KEYS", TokenKeys::parse);
        let max_file_bytes = tasks::attachments::max_file_bytes(&mut vars);
        let hashing = self.hashing.clone();
        Ok(vars.finish(|| {
            let tokens = Tokens::new(keys?, "sluice".to_owned(), "sluice-api".to_owned());
            Some((settings?, Credentials { tokens, hashing }, max_file_bytes))
        })?)
    }
}

impl Platform {
    /// Starts the workers, and the gateways once these are ready: a gateway that met them earlier
    /// would hold them for dead until its next look.
    pub async fn start(settings: Settings, patience: Duration) -> anyhow::Result<Self> {
        let deadline = Instant::now() + patience;
        let mut platform = Self {
            gateways: settings.gateways.clone(),
            user_workers: Vec::new(),
            task_workers: Vec::new(),
            notification_workers: Vec::new(),
            workers: JoinSet::new(),
            stop_workers: CancellationToken::new(),
            gateway_threads: Vec::new(),
            stop_gateways: CancellationToken::new(),
            gateway_ended: CancellationToken::new(),
        };
        for _ in 0..settings.replicas {
            platform.start_workers(&settings).await?;
        }
        let workers: Vec<_> = platform
            .replicas()
            .into_iter()
            .flat_map(|(_, all)| all)
            .copied()
            .collect();
        for address in workers {
            platform.wait_until_ready(address, deadline).await?;
        }
        for addresses in &settings.gateways {
            platform.start_gateway(&settings, *addresses)?;
        }
        for addresses in &settings.gateways {
            platform.wait_until_ready(addresses.admin, deadline).await?;
        }
        Ok(platform)
    }

    /// Starts one replica of each worker.
    async fn start_workers(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let adapters = settings.backend.adapters().await?;
        let (worker, credentials, max_file_bytes) = settings.workers()?;
        let stop = || self.stop_workers.clone();

        let (listener, address) = bind_free_port().await?;
        let user = users::run(listener, worker.clone(), credentials, adapters.user, stop());
        self.workers.spawn(user);
        self.user_workers.push(address);

        let (listener, address) = bind_free_port().await?;
        let task = tasks::run(
            listener,
            worker.clone(),
            max_file_bytes,
            adapters.task,
            stop(),
        );
        self.workers.spawn(task);
        self.task_workers.push(address);

        let (listener, address) = bind_free_port().await?;
        let notification = notifications::run(listener, worker, adapters.notification, stop());
        self.workers.spawn(notification);
        self.notification_workers.push(address);
        Ok(())
    }

    fn start_gateway(
        &mut self,
        settings: &Settings,
        addresses: GatewayAddresses,
    ) -> anyhow::Result<()> {
        let mut variables = settings.variables.clone();
        variables.insert("GATEWAY_LISTEN".into(), addresses.http.to_string());
        variables.insert("GATEWAY_ADMIN".into(), addresses.admin.to_string());
        for (worker, replicas) in self.replicas() {
            for (n, address) in (1..).zip(replicas) {
                variables.insert(format!("{worker}_{n}"), address.to_string());
            }
        }
        let text = &settings.gateway_config;
        let variable = |name: &str| Strings::get(&variables, name);
        let config = gateway::config::Config::parse(Path::new("gateway.yaml"), text, &variable)?;
        let gateway = gateway::build(&config, Stop::Token(self.stop_gateways.clone()))?;
        let name = format!("gateway-{}", self.gateway_threads.len() + 1);
        let thread = std::thread::Builder::new().name(name);
        let ended = self.gateway_ended.clone().drop_guard();
        self.gateway_threads.push(thread.spawn(move || {
            let _ended = ended;
            gateway.run();
        })?);
        Ok(())
    }

    fn replicas(&self) -> [(&'static str, &Vec<SocketAddr>); 3] {
        [
            ("USER_WORKER", &self.user_workers),
            ("TASK_WORKER", &self.task_workers),
            ("NOTIFICATION_WORKER", &self.notification_workers),
        ]
    }

    /// Waits until the worker or gateway at this address is ready.
    async fn wait_until_ready(
        &mut self,
        address: SocketAddr,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let client = Client::new();
        let uri = format!("http://{address}/readyz").parse()?;
        loop {
            if let Some(ended) = self.workers.try_join_next() {
                ended.context("a worker panicked")??;
                bail!("a worker ended before it was asked to");
            }
            let answer = client.get(&uri, Duration::from_secs(2), 64 << 10).await;
            if answer
                .as_ref()
                .is_ok_and(|answer| answer.status.is_success())
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{uri} did not get ready in time: {answer:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a worker or a gateway ends without having been stopped. The platform cannot run without
    /// it.
    pub async fn part_ended(&mut self) -> anyhow::Error {
        tokio::select! {
            Some(ended) = self.workers.join_next() => match ended {
                Ok(Ok(())) => anyhow!("a worker ended by itself"),
                Ok(Err(error)) => error.context("a worker ended"),
                Err(panic) => anyhow::Error::new(panic).context("a worker ended"),
            },
            () = self.gateway_ended.cancelled() => anyhow!("a gateway ended by itself"),
        }
    }

    /// Drains the gateways, then the workers, and returns the first error of any of them.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_gateways.cancel();
        for thread in self.gateway_threads.drain(..) {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
            joined.map_err(|_| anyhow!("a gateway panicked"))?;
        }
        self.stop_workers.cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended.context("a worker panicked")??;
        }
        Ok(())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop_gateways.cancel();
        self.stop_workers.cancel();
    }
}

async fn bind_free_port() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
