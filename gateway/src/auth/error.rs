//! Why a caller could not be identified, and how the response says so.

use std::path::PathBuf;

use http::HeaderValue;

use super::keys::KeySetError;

/// Why a request has no identity. `Display` is public text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("a bearer token is required")]
    Missing,
    #[error("{}", .0.description())]
    Invalid(Reason),
    #[error("the token has expired")]
    Expired,
    #[error("the session has ended")]
    Revoked,
    #[error("the keys that this token needs cannot be loaded at the moment")]
    KeysUnavailable,
    #[error("whether the session has ended cannot be told at the moment")]
    RevocationUnavailable,
    #[error("too many invalid tokens from this address")]
    TooManyFailures,
}

impl From<Reason> for AuthError {
    fn from(reason: Reason) -> Self {
        Self::Invalid(reason)
    }
}

impl AuthError {
    /// The challenge of a 401 (RFC 6750: no error code when no token was sent).
    pub fn www_authenticate(self) -> Option<HeaderValue> {
        let challenge = match self {
            Self::Missing => "Bearer",
            Self::Invalid(reason) => reason.challenge(),
            Self::Expired => {
                "Bearer error=\"invalid_token\", error_description=\"the token has expired\""
            }
            Self::Revoked => {
                "Bearer error=\"invalid_token\", error_description=\"the session has ended\""
            }
            Self::KeysUnavailable | Self::RevocationUnavailable | Self::TooManyFailures => {
                return None;
            }
        };
        Some(HeaderValue::from_static(challenge))
    }

    /// Seconds for `Retry-After`.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::KeysUnavailable | Self::RevocationUnavailable | Self::TooManyFailures => Some(1),
            Self::Missing | Self::Invalid(_) | Self::Expired | Self::Revoked => None,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $text:literal,)+) => {
        /// What is wrong with a token.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $reason,)+ }

        impl Reason {
            pub fn description(self) -> &'static str {
                match self { $(Self::$reason => $text,)+ }
            }

            fn challenge(self) -> &'static str {
                match self {
                    $(Self::$reason => concat!(
                        "Bearer error=\"invalid_token\", error_description=\"", $text, "\""
                    ),)+
                }
            }
        }
    };
}

reasons! {
    TooLong = "the token is longer than 8 KiB",
    /// Not three parts of base64url, or not the JSON of a JWT.
    Malformed = "the token is malformed",
    /// `crit`: the gateway supports no extensions.
    Critical = "the token needs an extension that is not supported",
    Type = "the token is not of type JWT or at+jwt",
    Algorithm = "the token's algorithm is not allowed",
    Issuer = "the token's issuer is not known",
    Audience = "the token is meant for somebody else",
    Expiry = "the token has no expiry",
    NotYetValid = "the token is not valid yet",
    Subject = "the token's subject is missing or cannot be used",
    Session = "the token's session is missing or cannot be used",
    Key = "the token's key is not known",
    Signature = "the token's signature is wrong",
}

/// Why the verifier cannot be built. Read by the operator.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    #[error("cannot read the key set {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the key set {}", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: KeySetError,
    },
}
