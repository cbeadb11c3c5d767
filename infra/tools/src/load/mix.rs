//! The mixes as data: who sends which request at what rate, and what the answer must be.

use std::path::Path;

use anyhow::{Context, bail};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Call;

/// Whose token the requests carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    Nobody,
    /// The first of the users.
    User,
    /// All users at the same time.
    Everybody,
    /// An account that exists only during this mix, so that the tasks it creates can be counted.
    #[serde(skip)]
    Writer,
    /// An account that is driven beyond its limit.
    #[serde(skip)]
    Hot,
}

/// At what rate the requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Push {
    /// As fast as the answers arrive, or 80 % of the limit if that is less. Nothing may be refused.
    Within,
    /// Well below what is possible: 40 % of the limit, or half of what the warm-up reached if that is
    /// less.
    Gently,
    /// As fast as the answers arrive, over the limit: 429 is expected.
    Over,
    /// This many requests a second.
    Paced(f64),
}

/// What may differ between correct answers to the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Alike {
    /// Only ids and times; the lengths are the same.
    #[default]
    Same,
    /// Anything; only the status is checked.
    Any,
}

/// The same request from one or several users.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) call: Call,
    pub(super) status: u16,
    pub(super) alike: Alike,
    pub(super) who: Who,
    pub(super) push: Push,
}

/// Groups that run at the same time.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    pub(super) name: String,
    pub(super) groups: Vec<Group>,
    /// Whether the users also listen for notifications of tasks that they create themselves.
    pub(super) has_listeners: bool,
}

impl Mix {
    pub(super) fn writes(&self) -> bool {
        self.groups.iter().any(|group| group.who == Who::Writer)
    }
}

const JWKS: &str = "/.well-known/jwks.json";
const TASKS: &str = "/api/tasks";
const ME: &str = "/api/users/me";

/// The mixes that ship, in the order in which they run.
pub(super) fn shipped() -> Vec<Mix> {
    let group = |name: &str, call, status, who, push| Group {
        name: name.to_owned(),
        call,
        status,
        alike: Alike::Same,
        who,
        push,
    };
    let alone = |name: &str, call, status, who, push| Mix {
        name: name.to_owned(),
        groups: vec![group(name, call, status, who, push)],
        has_listeners: false,
    };
    let task = json!({"title": "Carry water", "priority": "high", "tags": ["load"]});
    let write = Call::json(Method::POST, TASKS, &task);
    let crowd = vec![
        group("users", Call::get(ME), 200, Who::Everybody, Push::Gently),
        group("hot", Call::get(ME), 200, Who::Hot, Push::Over),
    ];
    vec![
        alone("anonymous", Call::get(JWKS), 200, Who::Nobody, Push::Within),
        alone("refused", Call::get(TASKS), 401, Who::Nobody, Push::Within),
        alone("read", Call::get(TASKS), 200, Who::User, Push::Within),
        alone("write", write.clone(), 201, Who::Writer, Push::Within),
        Mix {
            name: "told".to_owned(),
            groups: vec![group("write", write, 201, Who::Writer, Push::Gently)],
            has_listeners: true,
        },
        alone("limit", Call::get(TASKS), 200, Who::Hot, Push::Over),
        Mix {
            name: "crowd".to_owned(),
            groups: crowd,
            has_listeners: false,
        },
    ]
}

/// The mixes with these names; all of them when `names` is empty.
pub(super) fn chosen(mixes: Vec<Mix>, names: &[String]) -> anyhow::Result<Vec<Mix>> {
    let known: Vec<_> = mixes.iter().map(|mix| mix.name.clone()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!(
            "no mix is called `{unknown}`; there are {}",
            known.join(", ")
        );
    }
    let wanted = |mix: &Mix| names.is_empty() || names.contains(&mix.name);
    Ok(mixes.into_iter().filter(wanted).collect())
}

/// A custom mix, from a JSON file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    #[serde(default)]
    method: Option<String>,
    path: String,
    #[serde(default)]
    body: Option<Value>,
    #[serde(rename = "as", default = "user")]
    who: Who,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    answers: Alike,
    /// Requests a second, for each user.
    #[serde(default)]
    pace: Option<f64>,
    #[serde(default)]
    over_limit: bool,
}

fn user() -> Who {
    Who::User
}

fn ok() -> u16 {
    200
}

pub(super) fn scenario(file: &Path) -> anyhow::Result<Mix> {
    let read = || format!("the scenario {} cannot be read", file.display());
    let text = std::fs::read_to_string(file).with_context(read)?;
    parse(&text).with_context(read)
}

fn parse(text: &str) -> anyhow::Result<Mix> {
    let scenario: Scenario = serde_json::from_str(text)?;
    let push = match (scenario.pace, scenario.over_limit) {
        (None, false) => Push::Within,
        (None, true) => Push::Over,
        (Some(pace), false) if pace > 0.0 => Push::Paced(pace),
        (Some(_), false) => bail!("`pace` is requests a second, above 0"),
        (Some(_), true) => bail!("`pace` and `over_limit` exclude each other"),
    };
    if !scenario.path.starts_with('/') {
        bail!("`path` begins with /");
    }
    if scenario.status == 429 {
        bail!("`over_limit` says that 429 may come; `status` is that of the other answers");
    }
    let method = scenario.method.as_deref().unwrap_or("GET");
    let group = Group {
        name: scenario.name.clone(),
        call: Call {
            method: Method::from_bytes(method.as_bytes())?,
            path: scenario.path,
            body: scenario.body.map(|body| body.to_string()),
        },
        status: scenario.status,
        alike: scenario.answers,
        who: scenario.who,
        push,
    };
    Ok(Mix {
        name: scenario.name,
        groups: vec![group],
        has_listeners: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mixes: &[Mix]) -> Vec<&str> {
        mixes.iter().map(|mix| mix.name.as_str()).collect()
    }

    #[test]
    fn mixes_are_chosen_by_name() {
        let some = ["write".to_owned(), "read".to_owned()];
        assert_eq!(names(&chosen(shipped(), &some).unwrap()), ["read", "write"]);
        assert_eq!(chosen(shipped(), &[]).unwrap().len(), 7);
        let error = chosen(shipped(), &["raed".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`raed`"), "{error}");
    }

    #[test]
    fn a_scenario_says_only_what_differs() {
        let mix = parse(r#"{"name": "tags", "path": "/api/tasks?tag=load"}"#).unwrap();
        let group = &mix.groups[0];
        assert_eq!(
            (group.call.to_string(), group.status, group.who, group.push),
            (
                "GET /api/tasks?tag=load".to_owned(),
                200,
                Who::User,
                Push::Within
            )
        );
        let mix = parse(
            r#"{"name": "own", "method": "POST", "path": "/api/tasks", "body": {"title": "x"},
                "status": 201, "as": "everybody", "pace": 5, "answers": "any"}"#,
        );
        let group = mix.unwrap().groups.remove(0);
        assert_eq!(group.call.body.as_deref(), Some(r#"{"title":"x"}"#));
        assert_eq!(
            (group.who, group.push, group.alike),
            (Who::Everybody, Push::Paced(5.0), Alike::Any)
        );
    }

    #[test]
    fn a_scenario_that_makes_no_sense_is_refused() {
        for text in [
            r#"{"name": "x"}"#,
            r#"{"name": "x", "path": "api"}"#,
            r#"{"name": "x", "path": "/", "user": "me"}"#,
            r#"{"name": "x", "path": "/", "as": "writer"}"#,
            r#"{"name": "x", "path": "/", "pace": 0}"#,
            r#"{"name": "x", "path": "/", "pace": 5, "over_limit": true}"#,
            r#"{"name": "x", "path": "/", "status": 429}"#,
            r#"{"name": "x", "path": "/", "method": "G T"}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
