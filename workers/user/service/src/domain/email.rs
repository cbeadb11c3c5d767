//! E-mail addresses: the spelling to show, and the key to compare. Pure; handlers parse with it.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// RFC 5321 §4.5.3.1: the maximal octets of a local part, and of an address in a path.
const MAX_LOCAL_BYTES: usize = 64;
const MAX_BYTES: usize = 254;

/// An e-mail address: NFC, trimmed, its domain in lower case and ASCII (IDNA), its local part as
/// the person spells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

/// The address with its local part in lower case. Addresses with equal keys belong to one account.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailKey(String);

impl Email {
    /// Parses a client's text, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Decomposed text may be longer than its NFC, but no address is ever this long.
        if text.len() > 8 * MAX_BYTES {
            return Err(format!("must have at most {MAX_BYTES} bytes"));
        }
        let text: String = text.trim().nfc().collect();
        let wrong = || "must be an e-mail address such as ada@example.org".to_owned();
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        if !is_local_part(local) {
            return Err(wrong());
        }
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| wrong())?;
        let (_, top) = domain.rsplit_once('.').ok_or_else(wrong)?;
        if top.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let address = format!("{local}@{domain}");
        if address.len() > MAX_BYTES {
            return Err(format!("must have at most {MAX_BYTES} bytes"));
        }
        Ok(Self(address))
    }

    /// Wraps a stored address without checking it.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn key(&self) -> EmailKey {
        // Lower-casing can decompose characters, so normalise again.
        EmailKey(self.0.to_lowercase().nfc().collect())
    }
}

impl EmailKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this is a dot-atom (RFC 5322 §3.2.3, RFC 6531 §3.3): any text without spaces, control
/// characters and specials.
fn is_local_part(local: &str) -> bool {
    let atom = |atom: &str| {
        let special = |c: char| r#"()<>[]:;@\,""#.contains(c);
        !atom.is_empty()
            && !atom.contains(|c: char| c.is_whitespace() || c.is_control() || special(c))
    };
    local.len() <= MAX_LOCAL_BYTES && local.split('.').all(atom)
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

impl fmt::Debug for EmailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        Email::parse(text).unwrap().key().as_str().to_owned()
    }

    #[test]
    fn an_address_keeps_its_local_part_and_normalises_its_domain() {
        let email = Email::parse("  Ada.Lovelace+x@EXAMPLE.Org\n").unwrap();
        assert_eq!(email.as_str(), "Ada.Lovelace+x@example.org");
        let email = Email::parse("ada@Bücher.example").unwrap();
        assert_eq!(email.as_str(), "ada@xn--bcher-kva.example");
    }

    #[test]
    fn spellings_of_one_address_have_one_key() {
        for (one, other) in [
            ("ada@example.org", " ADA@Example.ORG "),
            ("ada@bücher.example", "ada@XN--BCHER-KVA.example"),
            ("ada@bu\u{308}cher.example", "ada@BÜCHER.example"),
            ("ren\u{65}\u{301}@example.org", "RENÉ@example.org"),
            ("ada@example\u{3002}org", "ada@example.org"),
        ] {
            assert_eq!(key(one), key(other), "{one} and {other}");
        }
        assert_ne!(key("ada@example.org"), key("ada+x@example.org"));
    }

    #[test]
    fn a_parsed_address_parses_to_itself() {
        for text in ["Ada@Bücher.Example", "İ@example.org", "a@b.co"] {
            let once = Email::parse(text).unwrap();
            assert_eq!(Email::parse(once.as_str()), Ok(once.clone()));
            assert_eq!(key(once.key().as_str()), once.key().as_str());
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long = format!("a@{}example.org", "abcdefghi.".repeat(30));
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@example",
            "a b@example.org",
            ".a@example.org",
            "a.@example.org",
            "a..b@example.org",
            "a@b@example.org",
            "a@exa mple.org",
            "a@-example.org",
            "a@example..org",
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "\"a\"@example.org",
            "a\u{0}@example.org",
            "a@example.org.",
            "<a@example.org>",
            &long_local,
            &long,
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
    }
}
