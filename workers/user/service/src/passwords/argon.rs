//! Argon2id (RFC 9106), with hashes as PHC strings.

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use runtime::error::BoxError;

use super::hasher::{Hasher, Hashing};
use crate::domain::{Password, PasswordHash};

/// Argon2id with one lane and the current parameters.
pub struct Argon2Hasher {
    argon2: Argon2<'static>,
    nobodys_hash: PasswordHash,
}

impl Argon2Hasher {
    pub fn new(hashing: &Hashing) -> anyhow::Result<Self> {
        let params = Params::new(hashing.memory_kib, hashing.iterations, 1, None)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        // A password matches this with a chance of 2^-256. Parameters and lengths are those of any
        // new hash.
        let nobodys_hash = PasswordHash::new(format!(
            "$argon2id$v=19$m={},t={},p=1${}${}",
            hashing.memory_kib,
            hashing.iterations,
            "A".repeat(22),
            "A".repeat(43),
        ));
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            nobodys_hash,
        })
    }
}

impl Hasher for Argon2Hasher {
    fn hash(&self, password: &Password) -> Result<PasswordHash, BoxError> {
        let hash = self.argon2.hash_password(password.expose().as_bytes())?;
        Ok(PasswordHash::new(hash.to_string()))
    }

    fn verify(&self, password: &Password, hash: &PasswordHash) -> Result<bool, BoxError> {
        // This uses the hash's own parameters, so that old hashes stay valid.
        match self
            .argon2
            .verify_password(password.expose().as_bytes(), hash.as_str())
        {
            Ok(()) => Ok(true),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn needs_rehash(&self, hash: &PasswordHash) -> bool {
        let Ok(hash) = phc::PasswordHash::new(hash.as_str()) else {
            return true;
        };
        let today = self.argon2.params();
        let weaker = Params::try_from(&hash).map_or(true, |params| {
            params.m_cost() < today.m_cost() || params.t_cost() < today.t_cost()
        });
        weaker || hash.algorithm != Algorithm::Argon2id.ident()
    }

    fn nobodys_hash(&self) -> PasswordHash {
        self.nobodys_hash.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(memory_kib: u32, iterations: u32) -> Argon2Hasher {
        Argon2Hasher::new(&Hashing {
            memory_kib,
            iterations,
            ..Hashing::cheap()
        })
        .unwrap()
    }

    #[test]
    fn a_hash_is_argon2id_with_the_products_parameters_and_its_own_salt() {
        let hasher = Argon2Hasher::new(&Hashing::default()).unwrap();
        let password = Password::attempt("correct horse");
        let hash = hasher.hash(&password).unwrap();
        assert!(
            hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            hash.as_str()
        );
        assert!(hasher.verify(&password, &hash).unwrap());
        assert!(
            !hasher
                .verify(&Password::attempt("correct house"), &hash)
                .unwrap()
        );
        assert!(!hasher.needs_rehash(&hash));
    }

    #[test]
    fn nobodys_hash_is_checked_like_any_other_and_never_matches() {
        let hasher = hasher(16, 2);
        let real = hasher.hash(&Password::attempt("x")).unwrap();
        let nobody = hasher.nobodys_hash();
        assert_eq!(real.as_str().len(), nobody.as_str().len());
        assert!(!hasher.verify(&Password::attempt(""), &nobody).unwrap());
        assert!(!hasher.needs_rehash(&nobody));
    }

    #[test]
    fn a_hash_is_made_again_when_the_parameters_rise_and_only_then() {
        let password = Password::attempt("correct horse");
        let old = hasher(16, 1).hash(&password).unwrap();
        for (stronger, expected) in [
            ((32, 1), true),
            ((16, 2), true),
            ((16, 1), false),
            ((8, 1), false),
        ] {
            let hasher = hasher(stronger.0, stronger.1);
            assert!(hasher.verify(&password, &old).unwrap());
            assert_eq!(hasher.needs_rehash(&old), expected, "{stronger:?}");
        }
    }

    #[test]
    fn an_unreadable_hash_is_an_error_and_not_a_wrong_password() {
        let hasher = hasher(8, 1);
        assert!(
            hasher
                .verify(&Password::attempt("x"), &PasswordHash::new("md5:1"))
                .is_err()
        );
    }
}
