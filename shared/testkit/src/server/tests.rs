use std::time::Duration;

use super::*;

/// Starts a "server" that writes this line and ends.
async fn start(output: &str) -> Result<(), StartError> {
    let script = format!("echo '{output}'; exit 1");
    let launch = Process::named("server").program("/bin/sh");
    let mut process = launch.args(["-c", &script]).start();
    ready(&mut process, Duration::from_secs(10), async |_| {
        Err("not up".to_owned())
    })
    .await
}

#[tokio::test]
async fn another_port_is_tried_only_when_the_address_is_in_use() {
    let mut starts = 0;
    let started = start_on_free_ports(async || {
        starts += 1;
        if starts < 3 {
            start("bind: Address already in use").await?;
        }
        Ok(starts)
    });
    assert_eq!(started.await, Ok(3));

    let mut starts = 0;
    let failed = start_on_free_ports(async || {
        starts += 1;
        start("no such option").await
    });
    let message = failed.await.unwrap_err();
    assert!(
        message.starts_with("server ended (exit status: 1)"),
        "{message}"
    );
    assert!(message.ends_with("no such option"), "{message}");
    assert_eq!(starts, 1);
}
