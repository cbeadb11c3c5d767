//! Keyset pages: a cursor is the sort key of the last item. So a page costs the same at any depth, and
//! inserted items do not shift it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const DEFAULT_LIMIT: usize = 20;
pub const MAX_LIMIT: usize = 100;
/// The longest cursor; no sort key of the platform needs more.
const MAX_CURSOR_BYTES: usize = 1024;

/// Which page to read: at most `limit` items after the key `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest<K> {
    pub limit: usize,
    pub after: Option<K>,
}

/// One page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit + 1` items that a store found. The extra item only shows that there is a
    /// next page.
    pub fn new<K: Serialize>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = match (more, items.last()) {
            (true, Some(last)) => encode(&key(last)),
            _ => None,
        };
        Self { items, next_cursor }
    }

    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

fn encode(key: &impl Serialize) -> Option<String> {
    let bytes = serde_json::to_vec(key).ok()?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads a cursor that [`Page`] made.
pub fn decode<K: DeserializeOwned>(text: &str) -> Result<K, String> {
    let wrong = || "is not a cursor of this list; take it from `next_cursor`".to_owned();
    if text.len() > MAX_CURSOR_BYTES {
        return Err(wrong());
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_page_has_no_cursor() {
        let page = Page::new(vec![1, 2], 2, |n| *n);
        assert_eq!(page.next_cursor, None);
        let page = Page::new(vec![1, 2, 3], 2, |n| *n);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(decode(&page.next_cursor.unwrap()), Ok(2));
    }

    proptest! {
        #[test]
        fn a_cursor_gives_back_its_key(time in any::<i64>(), id in ".{0,64}") {
            let key = (time, id);
            prop_assert_eq!(decode::<(i64, String)>(&encode(&key).unwrap()), Ok(key));
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in ".*") {
            if let Err(why) = decode::<(i64, String)>(&text) {
                prop_assert!(why.contains("next_cursor"));
            }
        }
    }
}
