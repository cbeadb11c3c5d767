//! A tour of the platform over HTTP: an account, a login, tasks, and the notifications as they arrive
//! over SSE. Every answer is checked against the contract.
//!
//! It knows only a URL, so any client can do what it shows. It stops at the first answer that violates
//! the contract. Called by `make demo` and by the end-to-end tests.

mod change;
mod conformance;
mod exchange;
mod screen;
mod story;

use std::io::Write;
use std::time::Instant;

use self::screen::Screen;
use self::story::Story;

/// Runs the demo against the platform at `base_url` (such as `http://127.0.0.1:8080`), and writes it to
/// `out`.
pub async fn run(base_url: &str, colour: bool, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut story = Story::new(base_url, Screen::new(out, colour))?;
    let account = story.registers().await?;
    let login = story.logs_in(&account).await?;
    let mut stream = story.listens(&login).await?;

    let first = story.creates_a_task(&login).await?;
    let second = story.uploads_a_task(&login).await?;
    story.finds_both(&login, &first, &second).await?;
    let first = story.changes(&login, first).await?;
    story.deletes(&login, &first).await?;

    story.receives_every_notification(&mut stream).await?;
    story.reads_its_notifications(&login).await?;
    story.is_refused_without_a_token().await?;
    story.cannot_be_somebody_else(&login).await?;
    story.finish(started.elapsed())
}
