//! Path → service: an immutable table, built from a checked configuration and replaced as a whole on
//! reload.
//!
//! A route is everything that the configuration says about one request. All routes are computed
//! beforehand, so finding one merges and allocates nothing. The table must never look at the query or
//! at a header. Admission calls it after [`crate::request::canonical`]; authentication and limits come
//! next.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use crate::config::{Config, Patterns, Policy, PolicyKey, PolicySet, Rule, Service, Timeouts};
use crate::request::canonical::CanonicalPath;

/// Every route of one configuration.
pub struct Table {
    /// The longest prefix first, so that the first match is the right one.
    services: Vec<ServiceRoutes>,
    /// Exact public paths outside the services.
    exact: HashMap<String, Arc<Route>>,
}

/// What the configuration says about one request.
#[derive(Debug)]
pub struct Route {
    pub service: Arc<Service>,
    /// The index of the service in [`Config::services`].
    pub service_index: usize,
    pub access: Access,
    /// The policies of the service and of the rule, each once. No policy keyed by user applies to
    /// anonymous callers.
    pub limits: PolicySet,
    /// The tokens that a request takes from each policy.
    pub cost: u32,
    pub timeouts: Timeouts,
    /// In bytes.
    pub max_body: u64,
}

/// Who may send requests on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody. Every caller is treated as anonymous.
    Public,
    /// A verified user.
    Protected,
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRouted {
    #[error("no service at this path")]
    NoService,
    /// The path answers GET and HEAD only.
    #[error("the method is not allowed at this path")]
    MethodNotAllowed,
}

struct ServiceRoutes {
    prefix: String,
    public: Patterns<()>,
    rules: Patterns<RoutePair>,
    /// For paths that no rule matches.
    default: RoutePair,
}

/// One route for each kind of access.
struct RoutePair {
    public: Arc<Route>,
    protected: Arc<Route>,
}

impl Table {
    /// Computes every route.
    pub fn build(config: &Config) -> Self {
        let services = config.services.iter().enumerate();
        let mut services: Vec<ServiceRoutes> = services
            .map(|(index, service)| ServiceRoutes::new(index, service))
            .collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.prefix.len()));
        let exact = config.public.iter().map(|public| {
            let same = |service: &Arc<Service>| service.name == public.service.name;
            let index = config.services.iter().position(same).unwrap_or_default();
            let route = route(index, &public.service, None, Access::Public);
            (public.path.clone(), Arc::new(route))
        });
        Self {
            services,
            exact: exact.collect(),
        }
    }

    /// The route of a request. The longest prefix, in whole segments, selects the service. Within the
    /// service, the most specific rule and the most specific public pattern select the route.
    pub fn find(
        &self,
        method: &Method,
        path: &CanonicalPath<'_>,
    ) -> Result<&Arc<Route>, NotRouted> {
        let path = path.path();
        for service in &self.services {
            match path.strip_prefix(service.prefix.as_str()) {
                // The root of a service may be written with or without `/`; both are one resource.
                Some("") => return Ok(service.find(method, "/")),
                Some(below) if below.starts_with('/') => return Ok(service.find(method, below)),
                _ => {}
            }
        }
        let route = self.exact.get(path).ok_or(NotRouted::NoService)?;
        match *method {
            Method::GET | Method::HEAD => Ok(route),
            _ => Err(NotRouted::MethodNotAllowed),
        }
    }
}

impl ServiceRoutes {
    fn new(index: usize, service: &Arc<Service>) -> Self {
        const CHECKED: &str = "the configuration refuses matches that collide";
        let mut public = Patterns::new();
        for matches in &service.public {
            public.insert(matches, ()).expect(CHECKED);
        }
        let mut rules = Patterns::new();
        for rule in &service.rules {
            let pair = RoutePair::new(index, service, Some(rule));
            rules.insert(&rule.matches, pair).expect(CHECKED);
        }
        Self {
            prefix: service.prefix.clone(),
            public,
            rules,
            default: RoutePair::new(index, service, None),
        }
    }

    fn find(&self, method: &Method, below: &str) -> &Arc<Route> {
        let pair = self.rules.find(method, below).unwrap_or(&self.default);
        match self.public.find(method, below) {
            Some(()) => &pair.public,
            None => &pair.protected,
        }
    }
}

impl RoutePair {
    fn new(index: usize, service: &Arc<Service>, rule: Option<&Rule>) -> Self {
        Self {
            public: Arc::new(route(index, service, rule, Access::Public)),
            protected: Arc::new(route(index, service, rule, Access::Protected)),
        }
    }
}

fn route(index: usize, service: &Arc<Service>, rule: Option<&Rule>, access: Access) -> Route {
    let of_rule = rule.map_or(&[][..], |rule| &rule.limits);
    let without_user = |policy: &&Arc<Policy>| policy.key != PolicyKey::User;
    let limits = PolicySet {
        authenticated: each_once(service.limits.authenticated.iter().chain(of_rule)),
        anonymous: each_once(
            service
                .limits
                .anonymous
                .iter()
                .chain(of_rule)
                .filter(without_user),
        ),
    };
    Route {
        service: Arc::clone(service),
        service_index: index,
        access,
        limits,
        cost: rule.map_or(1, |rule| rule.cost),
        timeouts: service
            .timeouts
            .with(rule.map(|rule| rule.timeouts).unwrap_or_default()),
        max_body: rule
            .and_then(|rule| rule.max_body)
            .unwrap_or(service.max_body),
    }
}

fn each_once<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Vec<Arc<Policy>> {
    let mut unique: Vec<Arc<Policy>> = Vec::new();
    for policy in policies {
        if !unique.iter().any(|known| known.name == policy.name) {
            unique.push(Arc::clone(policy));
        }
    }
    unique
}

#[cfg(test)]
mod tests;
