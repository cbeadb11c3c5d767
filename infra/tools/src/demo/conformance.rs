//! What the contract demands of all answers of a kind, as pure functions. `Err` says what is wrong.

use http::{HeaderMap, header};
use serde_json::Value;

type Verdict = Result<(), String>;

pub(super) const USER: &[&str] = &["id", "email", "name", "created_at", "updated_at"];
pub(super) const TASK: &[&str] = &[
    "id",
    "title",
    "description",
    "status",
    "priority",
    "due_at",
    "tags",
    "owner_id",
    "assignee_id",
    "attachments",
    "version",
    "created_at",
    "updated_at",
];
pub(super) const NOTIFICATION: &[&str] = &[
    "id",
    "type",
    "task_id",
    "task_version",
    "title",
    "body",
    "actor_id",
    "read",
    "created_at",
];
pub(super) const TOKENS: &[&str] = &[
    "access_token",
    "token_type",
    "expires_in",
    "refresh_token",
    "user",
];
pub(super) const LIST: &[&str] = &["items", "next_cursor"];

/// Headers that only the gateway and the workers may exchange.
const INTERNAL: &[&str] = &[
    "x-user-id",
    "x-session-id",
    "x-token-expires",
    "x-client-address",
    "x-gateway-time",
    "x-gateway-signature",
];

/// `object` has exactly these members, and its times are RFC 3339 in UTC with milliseconds.
pub(super) fn members(object: &Value, names: &[&str]) -> Verdict {
    let Some(map) = object.as_object() else {
        return Err(format!("it is no JSON object but {object}"));
    };
    if let Some(missing) = names.iter().find(|name| !map.contains_key(**name)) {
        return Err(format!("it has no member `{missing}`"));
    }
    if let Some(extra) = map.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(format!(
            "it has a member `{extra}` that the contract does not name"
        ));
    }
    match map
        .iter()
        .find(|(key, value)| key.ends_with("_at") && !is_time(value))
    {
        Some((key, value)) => Err(format!(
            "`{key}` is {value}, not RFC 3339 in UTC with milliseconds"
        )),
        None => Ok(()),
    }
}

fn is_time(value: &Value) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let has_shape = |text: &str| {
        text.len() == SHAPE.len()
            && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                mark => byte == *mark,
            })
    };
    value.is_null() || value.as_str().is_some_and(has_shape)
}

/// The body is a problem as in RFC 9457, with the path of the request and the id from its header.
pub(super) fn problem(body: &Value, status: u16, path: &str, request_id: &str) -> Verdict {
    let kind = body["type"].as_str().unwrap_or_default();
    let is_text = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
    if !kind.starts_with("/problems/") {
        Err(format!("its `type` is {}, not /problems/…", body["type"]))
    } else if let Some(name) = ["title", "detail"].iter().find(|name| !is_text(name)) {
        Err(format!("it has no `{name}`"))
    } else if body["status"] != status {
        Err(format!("its `status` is {}, not {status}", body["status"]))
    } else if body["instance"] != path {
        Err(format!(
            "its `instance` is {}, not {path}",
            body["instance"]
        ))
    } else if body["request_id"] != request_id {
        Err(format!(
            "its `request_id` is {}, not {request_id} as the header",
            body["request_id"]
        ))
    } else {
        Ok(())
    }
}

/// The headers `RateLimit-Policy: "user";q=200;w=2` and `RateLimit: "user";r=199;t=1` name the same
/// policies.
pub(super) fn rate_limit(headers: &HeaderMap) -> Verdict {
    let items = |name: &str, parameter: &str| {
        let value = text(headers, name).ok_or(format!("it has no {name} header"))?;
        let item = |item: &str| {
            let (policy, parameters) = item.trim().strip_prefix('"')?.split_once("\";")?;
            let has = |p: &str| {
                p.strip_prefix(parameter)
                    .is_some_and(|number| number.parse::<u64>().is_ok())
            };
            parameters.split(';').any(has).then(|| policy.to_owned())
        };
        value
            .split(',')
            .map(item)
            .collect::<Option<Vec<_>>>()
            .ok_or(format!("its {name} header is `{value}`"))
    };
    let policies = items("ratelimit-policy", "q=")?;
    let limits = items("ratelimit", "r=")?;
    if policies == limits {
        Ok(())
    } else {
        Err(format!(
            "RateLimit-Policy names {policies:?}, RateLimit {limits:?}"
        ))
    }
}

/// No internal header leaves the platform.
pub(super) fn no_internal_header(headers: &HeaderMap) -> Verdict {
    match INTERNAL.iter().find(|name| headers.contains_key(**name)) {
        Some(name) => Err(format!("it carries the internal header {name}")),
        None => Ok(()),
    }
}

/// The media type fits the status; 204 and 304 have neither type nor body.
pub(super) fn content_type(headers: &HeaderMap, status: u16, body: &[u8]) -> Verdict {
    let kind = text(headers, header::CONTENT_TYPE.as_str());
    let wanted = match status {
        204 | 304 => None,
        400.. => Some("application/problem+json"),
        _ => Some("application/json"),
    };
    if kind != wanted {
        Err(format!(
            "its Content-Type is {}, not {}",
            kind.unwrap_or("missing"),
            wanted.unwrap_or("absent")
        ))
    } else if wanted.is_none() && !body.is_empty() {
        Err("it has a body".to_owned())
    } else {
        Ok(())
    }
}

/// The value of a header that occurs exactly once.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn an_object_has_exactly_its_members_and_exact_times() {
        let names = &["id", "created_at"];
        let verdict = |object| members(&object, names);
        assert_eq!(
            verdict(json!({"id": 1, "created_at": "2026-11-23T01:02:03.004Z"})),
            Ok(())
        );
        for object in [
            json!([]),
            json!({"id": 1}),
            json!({"id": 1, "created_at": "2026-11-23T01:02:03.004Z", "password": ""}),
            json!({"id": 1, "created_at": "2026-11-23T01:02:03Z"}),
            json!({"id": 1, "created_at": "2026-11-23T01:02:03.004+00:00"}),
        ] {
            assert!(verdict(object.clone()).is_err(), "{object}");
        }
    }

    #[test]
    fn a_refusal_names_the_path_and_the_request() {
        let good = json!({"type": "/problems/not-found", "title": "Not found", "status": 404,
            "detail": "There is no such task.", "instance": "/api/tasks/1", "request_id": "r"});
        let verdict = |body: &Value| problem(body, 404, "/api/tasks/1", "r");
        assert_eq!(verdict(&good), Ok(()));
        for name in [
            "type",
            "title",
            "status",
            "detail",
            "instance",
            "request_id",
        ] {
            let mut bad = good.clone();
            bad[name] = json!("x");
            let texts = ["title", "detail"].contains(&name);
            assert_eq!(verdict(&bad).is_ok(), texts, "{name}");
            bad.as_object_mut().unwrap().remove(name);
            assert!(verdict(&bad).is_err(), "{name}");
        }
    }

    #[test]
    fn both_rate_limit_headers_are_structured_and_name_the_same_policies() {
        let verdict = |policy, limit| {
            rate_limit(&headers(&[
                ("ratelimit-policy", policy),
                ("ratelimit", limit),
            ]))
        };
        assert_eq!(
            verdict(r#""a";q=200;w=2, "b";q=1"#, r#""a";r=0;t=1, "b";r=9"#),
            Ok(())
        );
        assert!(verdict(r#""a";q=200"#, r#""b";r=0"#).is_err());
        assert!(verdict(r#""a";q=200"#, r#""a";t=0"#).is_err());
        assert!(verdict("100", "99").is_err());
        assert!(rate_limit(&headers(&[])).is_err());
    }

    #[test]
    fn a_204_has_neither_type_nor_body() {
        let json = headers(&[("content-type", "application/json")]);
        assert_eq!(content_type(&json, 200, b"{}"), Ok(()));
        assert!(content_type(&json, 404, b"{}").is_err());
        assert!(content_type(&json, 204, b"").is_err());
        assert!(content_type(&headers(&[]), 204, b"x").is_err());
        assert_eq!(content_type(&headers(&[]), 204, b""), Ok(()));
    }
}
