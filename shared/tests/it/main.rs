#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bus_rabbit;
mod http_drain;
mod http_start;
mod testing_chaos;
mod testing_client;
mod testing_process;
mod testing_servers;
