//! The faults, and the driver that injects them.

use std::time::{Duration, Instant};

use events::bus::conformance::TASK_QUEUES;
use tokio::time::sleep;

use crate::stack::{Role, Stack};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillGateway,
    KillUser,
    KillTask,
    KillNotification,
    RestartGateway,
    RestartTask,
    RestartNotification,
    PauseGateway,
    PauseTask,
    PauseNotification,
    KillRabbit,
    PauseRabbit,
    KillMongo,
    PauseMongo,
    KillRedis,
    CutRabbit,
    SilenceRabbit,
    CutMongo,
    SlowMongo,
    DeleteQueue,
    BeforePublish,
    AfterConfirm,
    BeforeApply,
    AfterApply,
}

impl Fault {
    pub(crate) const ALL: [Self; 24] = [
        Self::KillGateway,
        Self::KillUser,
        Self::KillTask,
        Self::KillNotification,
        Self::RestartGateway,
        Self::RestartTask,
        Self::RestartNotification,
        Self::PauseGateway,
        Self::PauseTask,
        Self::PauseNotification,
        Self::KillRabbit,
        Self::PauseRabbit,
        Self::KillMongo,
        Self::PauseMongo,
        Self::KillRedis,
        Self::CutRabbit,
        Self::SilenceRabbit,
        Self::CutMongo,
        Self::SlowMongo,
        Self::DeleteQueue,
        Self::BeforePublish,
        Self::AfterConfirm,
        Self::BeforeApply,
        Self::AfterApply,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillGateway => "kill -9 of a gateway",
            Self::KillUser => "kill -9 of a user worker",
            Self::KillTask => "kill -9 of a task worker",
            Self::KillNotification => "kill -9 of a notification worker",
            Self::RestartGateway => "SIGTERM to a gateway",
            Self::RestartTask => "SIGTERM to a task worker",
            Self::RestartNotification => "SIGTERM to a notification worker",
            Self::PauseGateway => "SIGSTOP of a gateway",
            Self::PauseTask => "SIGSTOP of a task worker",
            Self::PauseNotification => "SIGSTOP of a notification worker",
            Self::KillRabbit => "kill -9 of RabbitMQ",
            Self::PauseRabbit => "SIGSTOP of RabbitMQ",
            Self::KillMongo => "kill -9 of mongod",
            Self::PauseMongo => "SIGSTOP of mongod",
            Self::KillRedis => "kill -9 of Redis",
            Self::CutRabbit => "reset of all connections to RabbitMQ",
            Self::SilenceRabbit => "network to RabbitMQ silent",
            Self::CutMongo => "reset of all connections to MongoDB",
            Self::SlowMongo => "network to MongoDB slow",
            Self::DeleteQueue => "a queue deleted",
            Self::BeforePublish => "a relay dies before it publishes",
            Self::AfterConfirm => "a relay dies between confirm and mark",
            Self::BeforeApply => "a consumer dies before it applies",
            Self::AfterApply => "a consumer dies between commit and acknowledgement",
        }
    }
}

/// A fault that was injected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Injected {
    pub(crate) fault: Fault,
    pub(crate) from: Instant,
    /// When the fault was over.
    pub(crate) until: Instant,
}

/// Injects faults in rounds: every kind once, in a random order.
pub(crate) struct Driver {
    pub(crate) stack: Stack,
    random: Random,
    round: Vec<Fault>,
    injected: Vec<Injected>,
}

impl Driver {
    pub(crate) fn new(stack: Stack, seed: u64) -> Self {
        Self {
            stack,
            random: Random(seed),
            round: Vec::new(),
            injected: Vec::new(),
        }
    }

    pub(crate) fn injected(&self) -> &[Injected] {
        &self.injected
    }

    /// Waits a moment, then injects the next fault. Returns when it is over.
    pub(crate) async fn next(&mut self) {
        if self.round.is_empty() {
            self.round = Fault::ALL.to_vec();
        }
        let fault = self.round.swap_remove(self.random.below(self.round.len()));
        sleep(Duration::from_millis(200 + self.random.below(800) as u64)).await;
        let from = Instant::now();
        self.inject(fault).await;
        let until = Instant::now();
        self.injected.push(Injected { fault, from, until });
    }

    async fn inject(&mut self, fault: Fault) {
        let duration = Duration::from_millis(300 + self.random.below(2_000) as u64);
        match fault {
            Fault::KillGateway => self.kill(Role::Gateway).await,
            Fault::KillUser => self.kill(Role::User).await,
            Fault::KillTask => self.kill(Role::Task).await,
            Fault::KillNotification => self.kill(Role::Notification).await,
            Fault::RestartGateway => self.restart(Role::Gateway).await,
            Fault::RestartTask => self.restart(Role::Task).await,
            Fault::RestartNotification => self.restart(Role::Notification).await,
            Fault::PauseGateway => self.pause(Role::Gateway, duration).await,
            Fault::PauseTask => self.pause(Role::Task, duration).await,
            Fault::PauseNotification => self.pause(Role::Notification, duration).await,
            Fault::KillRabbit => {
                self.stack.rabbit.settle().await;
                self.stack.rabbit.kill();
                sleep(duration).await;
                self.stack.rabbit.restart().await;
            }
            Fault::PauseRabbit => {
                self.stack.rabbit.pause();
                sleep(duration).await;
                self.stack.rabbit.resume();
            }
            Fault::KillMongo => {
                self.stack.mongo.kill();
                sleep(duration).await;
                self.stack.mongo.restart().await;
            }
            Fault::PauseMongo => {
                self.stack.mongo.pause();
                sleep(duration).await;
                self.stack.mongo.resume();
            }
            Fault::KillRedis => {
                self.stack.redis.kill();
                sleep(duration).await;
                self.stack.redis.restart().await;
            }
            Fault::CutRabbit => self.stack.to_rabbit.cut().await,
            Fault::SilenceRabbit => {
                self.stack.to_rabbit.blackhole().await;
                sleep(duration).await;
                self.stack.to_rabbit.restore().await;
            }
            Fault::CutMongo => self.stack.to_mongo.cut().await,
            Fault::SlowMongo => {
                self.stack.to_mongo.latency(Duration::from_millis(40)).await;
                sleep(duration).await;
                self.stack.to_mongo.restore().await;
            }
            Fault::DeleteQueue => {
                let queue = TASK_QUEUES[self.random.below(TASK_QUEUES.len())];
                self.stack.delete_queue(queue.name).await;
            }
            Fault::BeforePublish => self.fail_at("relay.taken").await,
            Fault::AfterConfirm => self.fail_at("relay.confirmed").await,
            Fault::BeforeApply => self.fail_at("consumer.received").await,
            Fault::AfterApply => self.fail_at("consumer.applied").await,
        }
    }

    /// The index of one of the two processes, at random.
    fn pick(&mut self, role: Role) -> usize {
        role as usize + self.random.below(2)
    }

    async fn kill(&mut self, role: Role) {
        let index = self.pick(role);
        self.stack.processes.lock().await[index].start_again();
    }

    async fn restart(&mut self, role: Role) {
        let index = self.pick(role);
        let processes = &self.stack.processes;
        let before = processes.lock().await[index].pid();
        processes.lock().await[index].sigterm();
        let replaced = async || processes.lock().await[index].pid() != before;
        testkit::eventually(Duration::from_secs(30), replaced).await;
    }

    async fn pause(&mut self, role: Role, duration: Duration) {
        let index = self.pick(role);
        self.stack.processes.lock().await[index].sigstop();
        sleep(duration).await;
        self.stack.processes.lock().await[index].sigcont();
    }

    /// Kills the next process that reaches this fail point.
    async fn fail_at(&mut self, point: &str) {
        let file = self.stack.fail_points.join(point);
        std::fs::write(&file, "").expect("a file can be written");
        let reached = async || !file.exists();
        testkit::eventually(Duration::from_secs(60), reached).await;
    }
}

/// SplitMix64: the same seed gives the same faults.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
