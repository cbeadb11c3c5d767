//! `public`: exact paths outside the services.

use super::model::PublicPath;
use super::scalars::literal_path;
use super::services::Services;
use super::value::Value;

/// Every path; `services` is missing when the file has none at all.
pub(super) fn paths(value: &Value<'_>, services: Option<&Services>) -> Option<Vec<PublicPath>> {
    value.named(|path, v| {
        let path = match literal_path(path) {
            Ok(path) => Some(path),
            Err(why) => v.refuse(why),
        };
        let inside = path.as_deref().and_then(|path| services?.owner(path));
        if let Some(owner) = inside {
            v.refuse::<()>(format!(
                "lies inside the service `{owner}`, so it is never looked at; add a match to \
                 services.{owner}.public"
            ));
        }
        let service = v.section(|keys| {
            for key in ["file", "directory"] {
                if let Some(value) = keys.get(key) {
                    value.refuse::<()>(format!(
                        "`{key}` is not supported by this version; give {{service: NAME}}, or \
                         leave this path out"
                    ));
                }
            }
            if keys.get("file").is_some() || keys.get("directory").is_some() {
                return None;
            }
            keys.required("service", |v| services?.named(v))
        });
        Some(PublicPath {
            path: path?,
            service: service?,
        })
    })
}
