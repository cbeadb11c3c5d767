//! The sections of the file except the services: keys, defaults and checks, in one place each.
//!
//! Sections are read in the order of their dependencies (policies, services, then what names a
//! service), whatever their order in the file. Every key is read before the first `?`, so that
//! one error hides no other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use contract::identity::SigningKeys;
use runtime::secret::Secret;

use super::auth::auth;
use super::limits::Policies;
use super::model::{AccessLog, Config, Drain, Listen, Redis, Revocation, WhenStale};
use super::public;
use super::scalars::{address_block, duration, duration_or_zero, one_of, share, socket_address};
use super::services::Services;
use super::value::{Section, Value};

const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);
const DEFAULT_REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const DEFAULT_REDIS_DEADLINE: Duration = Duration::from_millis(20);
const DEFAULT_LAME_DUCK: Duration = Duration::from_secs(1);
const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// The whole file.
pub(super) fn config(root: &Value<'_>) -> Option<Config> {
    root.section(|keys| {
        let listen = keys.required("listen", listen);
        let trusted_proxies = keys
            .optional("trusted_proxies", |v| v.list(|v| v.parse(address_block)))
            .unwrap_or_default();
        let signing_keys = required_secret(keys, "signing_keys", |text| {
            SigningKeys::parse(text)
        });
        let auth = keys.required("auth", auth);
        let redis = keys.optional("redis", redis);
        let policies = Policies::read(keys);
        if policies.are_declared() && keys.get("redis").is_none() {
            keys.missing::<()>(
                "redis",
                "`redis` is missing; the policies of `limits` need it",
            );
        }
        if let (Some(None), Some(redis)) = (&redis, keys.get("redis"))
            && policies.limits.gateways.get() > 1
        {
            redis.refuse::<()>(
                "`local:` is for one gateway, and `limits.gateways` says that more may run; give the \
                 address of a Redis, or write `gateways: 1`",
            );
        }
        let services = keys.required("services", |v| {
            Services::read(v, &policies, listen.as_ref())
        });
        let public = match keys.get("public") {
            Some(value) => public::paths(&value, services.as_ref()),
            None => Some(Vec::new()),
        };
        let revocation = keys.optional("revocation", |v| revocation(v, services.as_ref()));
        let access_log = keys.optional("access_log", access_log);
        let drain = keys.optional("drain", drain);
        refuse_what_comes_later(keys);
        Some(Config {
            listen: listen?,
            trusted_proxies,
            signing_keys: signing_keys?,
            auth: auth?,
            revocation,
            redis: redis.flatten(),
            limits: policies.limits,
            services: services?.all,
            public: public?,
            access_log: access_log.unwrap_or(AccessLog { sample: 1.0 }),
            drain: drain.unwrap_or(Drain {
                lame_duck: DEFAULT_LAME_DUCK,
                grace: DEFAULT_GRACE,
            }),
        })
    })
}

/// Settings that this version knows and does not have. Silence would let an operator believe that
/// they work.
fn refuse_what_comes_later(keys: &mut Section<'_, '_>) {
    for key in ["cors", "compression"] {
        if let Some(value) = keys.get(key) {
            value.refuse::<()>(format!(
                "`{key}` is not supported by this version; write `{key}: null`"
            ));
        }
    }
    if let Some(telemetry) = keys.get("telemetry") {
        telemetry.section(|keys| {
            let endpoint = keys.get("otlp_endpoint")?;
            let asked = endpoint.text().is_some_and(|text| !text.is_empty());
            asked.then(|| {
                endpoint.refuse::<()>(
                    "`telemetry.otlp_endpoint` is not supported by this version; leave it empty",
                )
            })
        });
    }
}

fn listen(value: &Value<'_>) -> Option<Listen> {
    value.section(|keys| {
        let http = keys.required("http", |v| v.parse(socket_address));
        if let Some(https) = keys.get("https") {
            https.refuse::<()>(
                "`listen.https` is not supported by this version; write `https: null`",
            );
        }
        let admin = match keys.get("admin") {
            None => Some(DEFAULT_ADMIN),
            Some(admin) => {
                let address = admin.parse(socket_address);
                match (http, address) {
                    (Some(http), Some(address)) if overlap(http, address) => admin.refuse(format!(
                        "{address} and listen.http ({http}) are one address; choose another port"
                    )),
                    _ => address,
                }
            }
        };
        let request_head_timeout = keys.optional("request_head_timeout", |v| v.parse(duration));
        let idle_timeout = keys.optional("idle_timeout", |v| v.parse(duration));
        Some(Listen {
            http: http?,
            admin: admin?,
            request_head_timeout: request_head_timeout.unwrap_or(DEFAULT_REQUEST_HEAD_TIMEOUT),
            idle_timeout: idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT),
        })
    })
}

/// Whether two listeners cannot stand side by side. Port 0 is any free port.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || everywhere)
}

/// A secret that must be there, in the file or beside it.
pub(super) fn required_secret<T>(
    keys: &mut Section<'_, '_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match keys.has_secret(key) {
        true => keys.secret(key, parse),
        false => keys.missing(key, &format!("`{key}` (or `{key}_file`) is missing")),
    }
}

/// `None` inside: this process alone keeps the limits.
fn redis(value: &Value<'_>) -> Option<Option<Redis>> {
    value.section(|keys| {
        let url = required_secret(keys, "url", |text| {
            let known = [
                "redis://",
                "rediss://",
                "redis+unix://",
                "redis-sentinel://",
                "rediss-sentinel://",
                "redis-cluster://",
                "rediss-cluster://",
            ];
            match known.iter().any(|scheme| text.starts_with(scheme)) {
                true => Ok(Some(Secret::new(text))),
                false if text == "local:" => Ok(None),
                false => Err(
                    "must start with redis://, rediss://, redis+unix://, redis-sentinel:// or \
                     redis-cluster://, or be local:"
                        .to_owned(),
                ),
            }
        });
        let deadline = keys.optional("deadline", |v| v.parse(duration));
        Some(url?.map(|url| Redis {
            url,
            deadline: deadline.unwrap_or(DEFAULT_REDIS_DEADLINE),
        }))
    })
}

fn revocation(value: &Value<'_>, services: Option<&Services>) -> Option<Revocation> {
    value.section(|keys| {
        let service = keys.required("service", |v| services?.named(v));
        let when_stale = keys.optional("when_stale", |v| {
            v.parse(one_of(&[
                ("allow", WhenStale::Allow),
                ("deny", WhenStale::Deny),
            ]))
        });
        Some(Revocation {
            service: service?.name.clone(),
            when_stale: when_stale.unwrap_or(WhenStale::Allow),
        })
    })
}

fn access_log(value: &Value<'_>) -> Option<AccessLog> {
    value.section(|keys| {
        let sample = keys.optional("sample", |v| v.parse(share));
        Some(AccessLog {
            sample: sample.unwrap_or(1.0),
        })
    })
}

fn drain(value: &Value<'_>) -> Option<Drain> {
    value.section(|keys| {
        let lame_duck = keys.optional("lame_duck", |v| v.parse(duration_or_zero));
        let grace = keys.optional("grace", |v| v.parse(duration));
        let drain = Drain {
            lame_duck: lame_duck.unwrap_or(DEFAULT_LAME_DUCK),
            grace: grace.unwrap_or(DEFAULT_GRACE),
        };
        match drain.lame_duck < drain.grace {
            true => Some(drain),
            false => keys.refuse("`lame_duck` is a part of `grace` and must be shorter"),
        }
    })
}
