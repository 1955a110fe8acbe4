//! The one-time account of a replay, and the proof that a client knows its password.
//!
//! The password never crosses the wire: the client answers a random scramble. `mysql_native_password` serves old
//! servers and MariaDB, `caching_sha2_password` new ones; of the latter only the fast path exists here, since
//! the agent knows the password and needs no RSA exchange. The plugin follows the dead primary's version, as its
//! replicas were able to log in there.

use std::fmt;

use rand::Rng;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::identity::{Flavor, SourceIdentity};

/// Bytes of a scramble.
pub(super) const SCRAMBLE_LEN: usize = 20;

/// Account with which the local server logs in to the local source.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplayAccount {
    /// User name; at most 16 bytes, the limit of MySQL 5.6.
    pub user: String,
    /// Password; at most 32 bytes, the limit of `MASTER_PASSWORD`.
    pub password: String,
}

impl ReplayAccount {
    /// A random account, good for one replay. Letters and digits only: it needs no quoting in SQL.
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        let mut text = |length: usize| -> String {
            (0..length)
                .map(|_| char::from(rng.sample(rand::distr::Alphanumeric)))
                .collect()
        };
        Self {
            user: format!("mha_{}", text(10)),
            password: text(32),
        }
    }
}

impl fmt::Debug for ReplayAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayAccount")
            .field("user", &self.user)
            .field("password", &"(hidden)")
            .finish()
    }
}

/// Authentication plugin offered to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthPlugin {
    /// SHA-1; MySQL before 8.0 and MariaDB.
    NativePassword,
    /// SHA-256; MySQL 8.0 and later.
    CachingSha2,
}

impl AuthPlugin {
    /// The plugin the dead primary would have offered by default.
    pub(super) fn of(identity: &SourceIdentity) -> Self {
        match identity.flavor {
            Flavor::MySql if identity.major_version() >= 8 => Self::CachingSha2,
            Flavor::MySql | Flavor::MariaDb => Self::NativePassword,
        }
    }

    /// Name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NativePassword => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
        }
    }

    /// What a client that knows `password` answers to `scramble`.
    pub(super) fn answer(self, password: &str, scramble: &[u8; SCRAMBLE_LEN]) -> Vec<u8> {
        let password = password.as_bytes();
        if password.is_empty() {
            return Vec::new();
        }
        match self {
            // SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password)))
            Self::NativePassword => {
                let once = Sha1::digest(password);
                let twice = Sha1::digest(once);
                let mask = Sha1::new()
                    .chain_update(scramble)
                    .chain_update(twice)
                    .finalize();
                xor(&once, &mask)
            }
            // SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble)
            Self::CachingSha2 => {
                let once = Sha256::digest(password);
                let twice = Sha256::digest(once);
                let mask = Sha256::new()
                    .chain_update(twice)
                    .chain_update(scramble)
                    .finalize();
                xor(&once, &mask)
            }
        }
    }

    /// Whether `response` proves the knowledge of `password`.
    pub(super) fn verify(
        self,
        password: &str,
        scramble: &[u8; SCRAMBLE_LEN],
        response: &[u8],
    ) -> bool {
        let expected = self.answer(password, scramble);
        // No early exit: the time taken tells nothing about where they differ.
        let differing = expected
            .iter()
            .zip(response)
            .fold(0u8, |seen, (left, right)| seen | (left ^ right));
        expected.len() == response.len() && differing == 0
    }
}

/// A fresh scramble. NUL would end it early in the greeting, `$` marks stored hashes: both are avoided, as the
/// server does.
pub(super) fn fresh_scramble() -> [u8; SCRAMBLE_LEN] {
    let mut rng = rand::rng();
    let mut scramble = [0u8; SCRAMBLE_LEN];
    for byte in &mut scramble {
        *byte = match rng.random_range(1..=126u8) {
            b'$' => 127,
            other => other,
        };
    }
    scramble
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_accounts_fit_the_oldest_server_and_differ() {
        let one = ReplayAccount::generate();
        let two = ReplayAccount::generate();
        assert!(one.user.len() <= 16, "{}", one.user);
        assert!(one.password.len() <= 32);
        assert!(one.password.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(one.password, two.password);
        assert!(!format!("{one:?}").contains(&one.password));
    }

    #[test]
    fn only_the_right_password_verifies() {
        for plugin in [AuthPlugin::NativePassword, AuthPlugin::CachingSha2] {
            let scramble = fresh_scramble();
            assert!(!scramble.contains(&0) && !scramble.contains(&b'$'));
            let good = plugin.answer("secret", &scramble);
            assert!(plugin.verify("secret", &scramble, &good));
            assert!(!plugin.verify("Secret", &scramble, &good));
            assert!(!plugin.verify("secret", &fresh_scramble(), &good));
            assert!(!plugin.verify("secret", &scramble, &good[1..]));
            assert!(!plugin.verify("secret", &scramble, b""));
        }
    }

    #[test]
    fn native_answer_equals_a_known_one() {
        // Checked against `SHA1('a') XOR SHA1(CONCAT(scramble, UNHEX(SHA1(SHA1('a')))))` computed by hand.
        let scramble = *b"12345678901234567890";
        let once = Sha1::digest(b"a");
        let twice = Sha1::digest(once);
        assert_eq!(
            hex::encode(twice).to_uppercase(),
            "667F407DE7C6AD07358FA38DAED7828A72014B4E"
        );
        let answer = AuthPlugin::NativePassword.answer("a", &scramble);
        assert_eq!(answer.len(), 20);
        // The server's own check: recover SHA1(password), hash it, compare with the stored hash.
        let mask = Sha1::digest([scramble.as_slice(), twice.as_slice()].concat());
        assert_eq!(Sha1::digest(xor(&answer, &mask)), twice);
    }
}
