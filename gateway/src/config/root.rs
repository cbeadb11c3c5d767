//! The whole file: its top-level keys, with the defaults and checks of the small sections.
//!
//! Sections are read in the order of their dependencies (policies, then services, then references
//! to services), whatever their order in the file. Every key is read before the first `?`, so that
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
use super::setting::{Section, Setting};

const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);
const DEFAULT_REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const DEFAULT_REDIS_DEADLINE: Duration = Duration::from_millis(20);
const DEFAULT_LAME_DUCK: Duration = Duration::from_secs(1);
const DEFAULT_GRACE: Duration = Duration::from_secs(25);

const REDIS_SCHEMES: [&str; 7] = [
    "redis://",
    "rediss://",
    "redis+unix://",
    "redis-sentinel://",
    "rediss-sentinel://",
    "redis-cluster://",
    "rediss-cluster://",
];

pub(super) fn config(keys: &mut Section<'_, '_>) -> Option<Config> {
    let listen = keys.required("listen", |v| v.section(listen));
    let trusted_proxies = keys.optional("trusted_proxies", |v| v.list(|v| v.parse(address_block)));
    let signing_keys = keys.secret("signing_keys", SigningKeys::parse);
    let auth = keys.required("auth", |v| v.section(auth));
    let redis = keys.optional("redis", |v| v.section(redis));
    let policies = Policies::read(keys);
    check_redis_suits(&policies, redis.as_ref(), keys);
    let services = keys.required("services", |v| {
        Services::read(v, &policies, listen.as_ref())
    });
    let public = match keys.get("public") {
        Some(section) => public::paths(&section, services.as_ref()),
        None => Some(Vec::new()),
    };
    let revocation = keys.optional("revocation", |v| {
        v.section(|keys| revocation(keys, services.as_ref()))
    });
    let access_log = keys.section("access_log", access_log);
    let drain = keys.section("drain", drain);
    refuse_unsupported(keys);
    Some(Config {
        listen: listen?,
        trusted_proxies: trusted_proxies.unwrap_or_default(),
        signing_keys: signing_keys?,
        auth: auth?,
        revocation,
        redis: redis.flatten(),
        limits: policies.into_limits(),
        services: services?.into_good(),
        public: public?,
        access_log: access_log?,
        drain: drain?,
    })
}

/// Policies need a Redis; `local:` in its place is enough for one gateway. `redis` is what was read
/// from its section.
fn check_redis_suits(
    policies: &Policies,
    redis: Option<&Option<Redis>>,
    keys: &mut Section<'_, '_>,
) {
    match keys.get("redis") {
        None if policies.are_declared() => {
            keys.missing::<()>(
                "redis",
                "`redis` is missing; the policies of `limits` need it",
            );
        }
        Some(section) if matches!(redis, Some(None)) && policies.gateways.get() > 1 => {
            section.refuse::<()>(
                "`local:` is for one gateway, and `limits.gateways` says that more may run; give \
                 the address of a Redis, or write `gateways: 1`",
            );
        }
        _ => {}
    }
}

/// Refuses the keys of other versions. If they were ignored, an operator would believe that they
/// work.
fn refuse_unsupported(keys: &mut Section<'_, '_>) {
    for key in ["cors", "compression"] {
        if let Some(setting) = keys.get(key) {
            setting.refuse::<()>(format!(
                "`{key}` is not supported by this version; write `{key}: null`"
            ));
        }
    }
    keys.section("telemetry", |keys| {
        let endpoint = keys.get("otlp_endpoint")?;
        match endpoint.text()?.is_empty() {
            true => Some(()),
            false => endpoint.refuse(
                "`telemetry.otlp_endpoint` is not supported by this version; leave it empty",
            ),
        }
    });
}

fn listen(keys: &mut Section<'_, '_>) -> Option<Listen> {
    let http = keys.required("http", |v| v.parse(socket_address));
    if let Some(https) = keys.get("https") {
        https.refuse::<()>("`listen.https` is not supported by this version; write `https: null`");
    }
    let admin = match keys.get("admin") {
        Some(admin) => admin_address(&admin, http),
        None => Some(DEFAULT_ADMIN),
    };
    let request_head_timeout = keys.parse("request_head_timeout", duration);
    let idle_timeout = keys.parse("idle_timeout", duration);
    Some(Listen {
        http: http?,
        admin: admin?,
        request_head_timeout: request_head_timeout.unwrap_or(DEFAULT_REQUEST_HEAD_TIMEOUT),
        idle_timeout: idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT),
    })
}

fn admin_address(admin: &Setting<'_>, http: Option<SocketAddr>) -> Option<SocketAddr> {
    let address = admin.parse(socket_address)?;
    match http {
        Some(http) if overlap(http, address) => admin.refuse(format!(
            "{address} and listen.http ({http}) are one address; choose another port"
        )),
        _ => Some(address),
    }
}

/// Whether two listeners cannot have these addresses. Port 0 is any free port.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || everywhere)
}

/// `Some(None)`: the limits are kept in this process alone.
fn redis(keys: &mut Section<'_, '_>) -> Option<Option<Redis>> {
    let url = keys.secret("url", |text| match text {
        "local:" => Ok(None),
        _ if REDIS_SCHEMES.iter().any(|known| text.starts_with(known)) => {
            Ok(Some(Secret::new(text)))
        }
        _ => Err(
            "must start with redis://, rediss://, redis+unix://, redis-sentinel:// or \
             redis-cluster://, or be local:"
                .to_owned(),
        ),
    });
    let deadline = keys.parse("deadline", duration);
    Some(url?.map(|url| Redis {
        url,
        deadline: deadline.unwrap_or(DEFAULT_REDIS_DEADLINE),
    }))
}

fn revocation(keys: &mut Section<'_, '_>, services: Option<&Services>) -> Option<Revocation> {
    let service = keys.required("service", |v| services?.find(v));
    let when_stale = keys.parse(
        "when_stale",
        one_of(&[("allow", WhenStale::Allow), ("deny", WhenStale::Deny)]),
    );
    Some(Revocation {
        service: service?.name.clone(),
        when_stale: when_stale.unwrap_or(WhenStale::Allow),
    })
}

fn access_log(keys: &mut Section<'_, '_>) -> Option<AccessLog> {
    let sample = keys.parse("sample", share);
    Some(AccessLog {
        sample: sample.unwrap_or(1.0),
    })
}

fn drain(keys: &mut Section<'_, '_>) -> Option<Drain> {
    let lame_duck = keys.parse("lame_duck", duration_or_zero);
    let grace = keys.parse("grace", duration);
    let drain = Drain {
        lame_duck: lame_duck.unwrap_or(DEFAULT_LAME_DUCK),
        grace: grace.unwrap_or(DEFAULT_GRACE),
    };
    match drain.lame_duck < drain.grace {
        true => Some(drain),
        false => keys.refuse("`lame_duck` is a part of `grace` and must be shorter"),
    }
}
