//! The client side of the protocol, as a replica speaks it, written for the tests.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::source::auth::AuthPlugin;
use crate::source::handshake::tests::{login, scramble_of};
use crate::source::packet::{Fields, frame, read_payload};

/// A replica.
pub(super) struct Replica<S> {
    pub(super) stream: S,
    pub(super) sequence: u8,
}

/// A response to a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    Ok,
    Eof,
    Error(u16, String),
    /// First column of... all columns of all rows.
    Rows(Vec<Vec<Option<String>>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Replica<S> {
    /// Logs in; `Err` is the error packet.
    pub(super) async fn log_in(
        stream: S,
        user: &str,
        password: &str,
        plugin: AuthPlugin,
    ) -> Result<Self, (u16, String)> {
        let mut replica = Self {
            stream,
            sequence: 0,
        };
        let greeting = replica.read().await.unwrap();
        let response = plugin.answer(password, &scramble_of(&greeting));
        replica.write(&login(user, &response, plugin.name())).await;
        loop {
            let answer = replica.read().await.unwrap();
            match answer[0] {
                0x00 => return Ok(replica),
                0x01 => assert_eq!(answer, [1, 3]),
                0xfe => {
                    let mut fields = Fields::of(&answer[1..]);
                    let wanted = fields.nul_terminated().unwrap().to_vec();
                    let scramble = fields.take(20).unwrap().try_into().unwrap();
                    let plugin = [AuthPlugin::NativePassword, AuthPlugin::CachingSha2]
                        .into_iter()
                        .find(|known| known.name().as_bytes() == wanted)
                        .unwrap();
                    replica.write(&plugin.answer(password, &scramble)).await;
                }
                _ => {
                    let Response::Error(code, text) = error(&answer) else {
                        unreachable!()
                    };
                    return Err((code, text));
                }
            }
        }
    }

    pub(super) async fn write(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        self.sequence = frame(payload, self.sequence, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next payload; `None` if the source closed the connection, in or between packets.
    pub(super) async fn read(&mut self) -> Option<Vec<u8>> {
        read_payload(&mut self.stream, &mut self.sequence, usize::MAX)
            .await
            .ok()
            .flatten()
    }

    pub(super) async fn command(&mut self, payload: &[u8]) -> Response {
        self.sequence = 0;
        self.write(payload).await;
        let first = self.read().await.unwrap();
        match first[0] {
            0x00 => return Response::Ok,
            0xfe => return Response::Eof,
            0xff => return error(&first),
            _ => {}
        }
        let columns = usize::from(first[0]);
        for _ in 0..columns {
            assert!(self.read().await.unwrap().starts_with(b"\x03def"));
        }
        assert_eq!(self.read().await.unwrap()[0], 0xfe);
        let mut rows = Vec::new();
        loop {
            let payload = self.read().await.unwrap();
            if payload[0] == 0xfe && payload.len() < 9 {
                return Response::Rows(rows);
            }
            let mut rest = payload.as_slice();
            let mut row = Vec::new();
            for _ in 0..columns {
                if rest[0] == 0xfb {
                    row.push(None);
                    rest = &rest[1..];
                } else {
                    let mut fields = Fields::of(rest);
                    row.push(Some(
                        String::from_utf8(fields.lenenc_bytes().unwrap().to_vec()).unwrap(),
                    ));
                    rest = fields.rest();
                }
            }
            rows.push(row);
        }
    }

    pub(super) async fn query(&mut self, text: &str) -> Response {
        self.command(&[b"\x03", text.as_bytes()].concat()).await
    }

    /// The single value of a query.
    pub(super) async fn value(&mut self, text: &str) -> Option<String> {
        match self.query(text).await {
            Response::Rows(mut rows) if rows.len() == 1 => rows.remove(0).pop().unwrap(),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Registers and asks for the stream from here on.
    pub(super) async fn dump(&mut self, file: &str, offset: u32, flags: u16) {
        let mut register = vec![0x15];
        register.extend_from_slice(&2u32.to_le_bytes());
        register.extend_from_slice(&[0; 13]);
        assert_eq!(self.command(&register).await, Response::Ok);
        self.sequence = 0;
        let mut dump = vec![0x12];
        dump.extend_from_slice(&offset.to_le_bytes());
        dump.extend_from_slice(&flags.to_le_bytes());
        dump.extend_from_slice(&2u32.to_le_bytes());
        dump.extend_from_slice(file.as_bytes());
        self.write(&dump).await;
    }

    /// The next event of a dump.
    pub(super) async fn event(&mut self) -> Vec<u8> {
        let payload = self.read().await.expect("an event");
        assert_eq!(
            payload[0],
            0,
            "not an event: {:?}",
            String::from_utf8_lossy(&payload)
        );
        payload[1..].to_vec()
    }

    /// The error a dump ends with.
    pub(super) async fn dump_error(&mut self) -> (u16, String) {
        let payload = self.read().await.expect("an error packet");
        match error(&payload) {
            Response::Error(code, text) => (code, text),
            other => panic!("{other:?}"),
        }
    }
}

fn error(payload: &[u8]) -> Response {
    assert_eq!(payload[0], 0xff, "not an error: {payload:?}");
    let code = u16::from_le_bytes([payload[1], payload[2]]);
    Response::Error(code, String::from_utf8(payload[9..].to_vec()).unwrap())
}
