//! `public`: exact paths outside the services.

use super::model::PublicPath;
use super::scalars::literal_path;
use super::services::Services;
use super::setting::{Section, Setting};

/// Every path. `services` is `None` if that section could not be read.
pub(super) fn paths(section: &Setting<'_>, services: Option<&Services>) -> Option<Vec<PublicPath>> {
    section.named(|path, block| {
        let path = block.accept(literal_path(path));
        let owner = path.as_deref().and_then(|path| services?.owner(path));
        if let Some(owner) = owner {
            block.refuse::<()>(format!(
                "lies inside the service `{owner}`, so it is never looked at; add a match to \
                 services.{owner}.public"
            ));
        }
        let service = block.section(|keys| {
            if refuse_files(keys) {
                return None;
            }
            keys.required("service", |v| services?.find(v))
        });
        Some(PublicPath {
            path: path?,
            service: service?,
        })
    })
}

/// Whether the block names a file or a directory, which this version cannot serve.
fn refuse_files(keys: &mut Section<'_, '_>) -> bool {
    let mut found = false;
    for key in ["file", "directory"] {
        if let Some(setting) = keys.get(key) {
            found = true;
            setting.refuse::<()>(format!(
                "`{key}` is not supported by this version; give {{service: NAME}}, or leave this \
                 path out"
            ));
        }
    }
    found
}
