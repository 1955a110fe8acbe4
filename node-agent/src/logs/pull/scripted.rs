//! A providing agent that does exactly what a test says, chunk by chunk, over a real connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proto::channel::configure_server;
use proto::v1;
use proto::v1::SegmentChunk;
use proto::v1::log_service_server::{LogService, LogServiceServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// One act of the provider in answer to a call.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Sends this.
    Chunk(SegmentChunk),
    /// Lets time pass.
    Wait(Duration),
    /// Says nothing any more and keeps the stream open.
    Stall,
    /// Ends the stream as a lost connection does.
    Break,
}

/// What is done for the call of this number (from 0) from this offset on. Behind the last act the stream ends in good order.
type Script = dyn Fn(usize, u64) -> Vec<Act> + Send + Sync;

/// A running provider.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    offsets: Arc<Mutex<Vec<u64>>>,
}

impl Scripted {
    pub(super) async fn start(
        script: impl Fn(usize, u64) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let offsets = Arc::<Mutex<Vec<u64>>>::default();
        let service = Service {
            script: Arc::new(script),
            offsets: Arc::clone(&offsets),
        };
        tokio::spawn(
            configure_server(Server::builder())
                .add_service(LogServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, offsets }
    }

    /// The offsets asked for, in order.
    pub(super) fn offsets(&self) -> Vec<u64> {
        self.offsets.lock().unwrap().clone()
    }
}

/// A chunk as an agent makes it.
pub(super) fn chunk(offset: usize, data: &[u8]) -> SegmentChunk {
    SegmentChunk {
        offset: offset as u64,
        crc32: crc32fast::hash(data),
        data: Bytes::copy_from_slice(data),
    }
}

struct Service {
    script: Arc<Script>,
    offsets: Arc<Mutex<Vec<u64>>>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn read(&self, offset: u64) -> Streamed<SegmentChunk> {
        let call = {
            let mut offsets = self.offsets.lock().unwrap();
            offsets.push(offset);
            offsets.len() - 1
        };
        let acts = (self.script)(call, offset);
        let stream = tokio_stream::iter(acts)
            .then(|act| async move {
                match act {
                    Act::Chunk(chunk) => Some(Ok(chunk)),
                    Act::Wait(time) => {
                        tokio::time::sleep(time).await;
                        None
                    }
                    Act::Stall => std::future::pending().await,
                    Act::Break => Some(Err(Status::unavailable("as scripted"))),
                }
            })
            .filter_map(|item| item);
        Box::pin(stream)
    }
}

/// The service: a transfer calls nothing but `read_segment`.
macro_rules! service {
    ($($name:ident: $request:ident => $response:ty;)*) => {
        #[tonic::async_trait]
        impl LogService for Service {
            type SaveBinaryLogsStream = Streamed<v1::SegmentProgress>;
            type GenerateDiffRelayLogsStream = Streamed<v1::SegmentProgress>;
            type PullSegmentStream = Streamed<v1::SegmentProgress>;
            type ReadSegmentStream = Streamed<SegmentChunk>;

            async fn read_segment(
                &self,
                request: Request<v1::ReadSegmentRequest>,
            ) -> Result<Response<Self::ReadSegmentStream>, Status> {
                Ok(Response::new(self.read(request.into_inner().offset)))
            }

            $(
                async fn $name(
                    &self,
                    _: Request<v1::$request>,
                ) -> Result<Response<$response>, Status> {
                    Err(Status::unimplemented(stringify!($name)))
                }
            )*
        }
    };
}

service! {
    survey_logs: SurveyLogsRequest => v1::SurveyLogsResponse;
    observe_binlog_server: ObserveBinlogServerRequest => v1::ObserveBinlogServerResponse;
    find_relay_logs: FindRelayLogsRequest => v1::FindRelayLogsResponse;
    locate_gtids: LocateGtidsRequest => v1::LocateGtidsResponse;
    describe_event: DescribeEventRequest => v1::DescribeEventResponse;
    save_binary_logs: SaveBinaryLogsRequest => Self::SaveBinaryLogsStream;
    generate_diff_relay_logs: GenerateDiffRelayLogsRequest => Self::GenerateDiffRelayLogsStream;
    pull_segment: PullSegmentRequest => Self::PullSegmentStream;
}
