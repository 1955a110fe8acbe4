//! The start of a connection: the greeting (protocol version 10), the client's answer, and the login.
//!
//! No TLS and no compression are offered: the connection never leaves the host. A client that answers with another
//! plugin than the greeting's is asked once to switch. No login, right or wrong, reveals whether the user exists.

use super::auth::{AuthPlugin, SCRAMBLE_LEN};
use super::packet::Fields;
use super::response::{CHARSET_UTF8, STATUS_AUTOCOMMIT};

const LONG_PASSWORD: u32 = 1; // also CLIENT_MYSQL: without it MariaDB expects further capabilities
const FOUND_ROWS: u32 = 1 << 1;
const LONG_FLAG: u32 = 1 << 2;
const CONNECT_WITH_DB: u32 = 1 << 3;
const LOCAL_FILES: u32 = 1 << 7;
const PROTOCOL_41: u32 = 1 << 9;
const INTERACTIVE: u32 = 1 << 10;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_STATEMENTS: u32 = 1 << 16;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;
const CONNECT_ATTRS: u32 = 1 << 20;
const PLUGIN_AUTH_LENENC: u32 = 1 << 21;

/// What the local source can do. `MULTI_STATEMENTS` and `LOCAL_FILES` are harmless (no statement does anything) and
/// some clients insist on them.
const OFFERED: u32 = LONG_PASSWORD
    | FOUND_ROWS
    | LONG_FLAG
    | CONNECT_WITH_DB
    | LOCAL_FILES
    | PROTOCOL_41
    | INTERACTIVE
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PLUGIN_AUTH
    | CONNECT_ATTRS
    | PLUGIN_AUTH_LENENC;

/// Payload of the greeting.
pub(super) fn greeting(
    version: &str,
    connection_id: u32,
    scramble: &[u8; SCRAMBLE_LEN],
    plugin: AuthPlugin,
) -> Vec<u8> {
    let (first, second) = scramble.split_at(8);
    let capabilities = OFFERED.to_le_bytes();
    let mut out = vec![10];
    out.extend(version.bytes().filter(|byte| *byte != 0));
    out.push(0);
    out.extend_from_slice(&connection_id.to_le_bytes());
    out.extend_from_slice(first);
    out.push(0);
    out.extend_from_slice(&capabilities[..2]);
    out.push(CHARSET_UTF8);
    out.extend_from_slice(&STATUS_AUTOCOMMIT.to_le_bytes());
    out.extend_from_slice(&capabilities[2..]);
    out.push(SCRAMBLE_LEN as u8 + 1);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(second);
    out.push(0);
    out.extend_from_slice(plugin.name().as_bytes());
    out.push(0);
    out
}

/// The client's answer to the greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login<'a> {
    /// User name as sent.
    pub(super) user: &'a [u8],
    /// Answer to the scramble.
    pub(super) response: &'a [u8],
    /// Plugin the answer was made with; `None` if the client does not name one.
    pub(super) plugin: Option<&'a [u8]>,
}

/// Reads a login; `None` for anything this server does not speak (older protocols, a request for TLS).
pub(super) fn parse_login(payload: &[u8]) -> Option<Login<'_>> {
    let mut fields = Fields::of(payload);
    let capabilities = fields.u32()?;
    if capabilities & PROTOCOL_41 == 0 {
        return None;
    }
    fields.u32()?; // largest packet of the client
    fields.u8()?; // character set
    fields.take(23)?;
    let user = fields.nul_terminated()?;
    let response = if capabilities & PLUGIN_AUTH_LENENC != 0 {
        fields.lenenc_bytes()?
    } else if capabilities & SECURE_CONNECTION != 0 {
        let length = fields.u8()?;
        fields.take(usize::from(length))?
    } else {
        fields.nul_terminated()?
    };
    if capabilities & CONNECT_WITH_DB != 0 {
        fields.nul_terminated()?;
    }
    let plugin = if capabilities & PLUGIN_AUTH != 0 {
        // Some clients leave the closing NUL out when nothing follows.
        let mut named = fields;
        Some(named.nul_terminated().unwrap_or_else(|| fields.rest()))
    } else {
        None
    };
    Some(Login {
        user,
        response,
        plugin,
    })
}

/// Payload that asks the client to answer `scramble` with `plugin` instead.
pub(super) fn auth_switch(plugin: AuthPlugin, scramble: &[u8; SCRAMBLE_LEN]) -> Vec<u8> {
    let mut out = vec![0xfe];
    out.extend_from_slice(plugin.name().as_bytes());
    out.push(0);
    out.extend_from_slice(scramble);
    out.push(0);
    out
}

/// What `caching_sha2_password` says before the OK when the fast path was enough.
pub(super) const FAST_AUTH_SUCCESS: [u8; 2] = [0x01, 0x03];

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A login as MySQL 5.6's replica sends it.
    pub(crate) fn login(user: &str, response: &[u8], plugin: &str) -> Vec<u8> {
        let capabilities =
            LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | CONNECT_ATTRS;
        let mut out = capabilities.to_le_bytes().to_vec();
        out.extend_from_slice(&(1u32 << 30).to_le_bytes());
        out.push(33);
        out.extend_from_slice(&[0; 23]);
        out.extend_from_slice(user.as_bytes());
        out.push(0);
        out.push(response.len() as u8);
        out.extend_from_slice(response);
        out.extend_from_slice(plugin.as_bytes());
        out.push(0);
        out.push(0); // no attributes
        out
    }

    /// The scramble in a greeting.
    pub(crate) fn scramble_of(greeting: &[u8]) -> [u8; SCRAMBLE_LEN] {
        let mut fields = Fields::of(greeting);
        assert_eq!(fields.u8(), Some(10));
        fields.nul_terminated().unwrap();
        fields.u32().unwrap();
        let first = fields.take(8).unwrap();
        fields.take(1 + 2 + 1 + 2 + 2 + 1 + 10).unwrap();
        let second = fields.take(12).unwrap();
        [first, second].concat().try_into().unwrap()
    }

    #[test]
    fn the_greeting_holds_the_scramble_version_and_plugin() {
        let scramble = *b"abcdefghijklmnopqrst";
        let out = greeting("5.6.24-log", 7, &scramble, AuthPlugin::NativePassword);
        assert_eq!(scramble_of(&out), scramble);
        assert!(out.starts_with(b"\x0a5.6.24-log\0\x07\0\0\0abcdefgh\0"));
        assert!(out.ends_with(b"mnopqrst\0mysql_native_password\0"));
    }

    #[test]
    fn logins_are_read_with_and_without_the_newer_fields() {
        let full = login("u", b"12345678901234567890", "mysql_native_password");
        assert_eq!(
            parse_login(&full),
            Some(Login {
                user: b"u",
                response: b"12345678901234567890",
                plugin: Some(b"mysql_native_password")
            })
        );
        let mut old = (PROTOCOL_41 | SECURE_CONNECTION).to_le_bytes().to_vec();
        old.extend_from_slice(&[0; 28]);
        old.extend_from_slice(b"u\0\x02ab");
        assert_eq!(
            parse_login(&old),
            Some(Login {
                user: b"u",
                response: b"ab",
                plugin: None
            })
        );
        assert_eq!(parse_login(&full[..32]), None, "a request for TLS");
        assert_eq!(parse_login(&[0; 64]), None, "a protocol before 4.1");
    }

    proptest! {
        #[test]
        fn arbitrary_logins_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), set in any::<bool>()) {
            let mut bytes = bytes;
            if set && bytes.len() > 3 {
                bytes[1] |= 0x02; // PROTOCOL_41
            }
            parse_login(&bytes);
        }
    }
}
