//! Blocks that are declared by name (policies, services), and the references to them.

use std::sync::Arc;

use super::scalars::name;
use super::setting::{Section, Setting, closest};

/// The named blocks of one section, in the order of the file.
///
/// A block with an error of its own is `None`. It is declared all the same, so a reference to it is
/// not reported as a second error.
pub(super) struct Declared<T>(Vec<(String, Option<Arc<T>>)>);

impl<T> Declared<T> {
    pub(super) fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Reads every block of `section`.
    pub(super) fn read<'a>(
        section: &Setting<'a>,
        mut read: impl FnMut(&str, &mut Section<'_, 'a>) -> Option<T>,
    ) -> Option<Self> {
        let blocks = section.named(|key, block| {
            let named = block.accept(name(key));
            let value = named.and_then(|()| block.section(|keys| read(key, keys)));
            Some((key.to_owned(), value.map(Arc::new)))
        });
        blocks.map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The blocks without errors, with their names.
    pub(super) fn into_good(self) -> impl Iterator<Item = (String, Arc<T>)> {
        let good = |(name, block): (String, Option<_>)| Some((name, block?));
        self.0.into_iter().filter_map(good)
    }

    /// The block that `reference` names; `noun` and `section` are for the error.
    pub(super) fn find(
        &self,
        reference: &Setting<'_>,
        noun: &str,
        section: &str,
    ) -> Option<Arc<T>> {
        let name = reference.text()?;
        if let Some((_, block)) = self.0.iter().find(|(declared, _)| *declared == name) {
            return block.clone();
        }
        let declared = self.0.iter().map(|(declared, _)| declared.as_str());
        reference.refuse(match closest(&name, declared) {
            Some(known) => format!("no {noun} is called `{name}`; did you mean `{known}`?"),
            None => format!("no {noun} is called `{name}`; declare it in `{section}`"),
        })
    }
}
