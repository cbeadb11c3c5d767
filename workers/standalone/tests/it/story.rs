//! The demo, which checks every answer against the contract, succeeds at a gateway.

use tools::demo;

use crate::echo::Echo;
use crate::test_platform::TestPlatform;

pub(crate) async fn tell(url: &str) {
    let mut shown = Vec::new();
    let told = demo::run(url, false, &mut shown).await;
    let shown = String::from_utf8_lossy(&shown);
    told.unwrap_or_else(|error| panic!("{error:#}\n{shown}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_holds_at_a_gateway() {
    let test = TestPlatform::start().await;
    tell(&format!("http://{}", test.platform.gateways[0].http)).await;
    test.finish().await;
}

#[tokio::test]
async fn a_demo_without_a_platform_says_what_to_do() {
    let url = format!("http://127.0.0.1:{}", testkit::free_port());
    let told = demo::run(&url, false, &mut Vec::new()).await;
    let error = told.expect_err("nothing listens").to_string();
    assert!(
        error.contains("`make run`") && error.contains(&url),
        "{error}"
    );
}

#[tokio::test]
async fn a_demo_ends_at_the_first_answer_that_is_not_as_the_contract_says() {
    let impostor = Echo::start().await;
    let told = demo::run(
        &format!("http://{}", impostor.address()),
        false,
        &mut Vec::new(),
    )
    .await;
    let error = told.expect_err("an impostor answers").to_string();
    assert!(
        error.starts_with("POST /api/users/register answered 200 OK"),
        "{error}"
    );
    assert_eq!(impostor.requests(), 1);
}
