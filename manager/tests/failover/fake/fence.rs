//! Holding a server down, and the virtual IP.

use proto::v1;
use tonic::{Request, Response, Status};

use super::FakeAgent;

#[tonic::async_trait]
impl v1::fence_service_server::FenceService for FakeAgent {
    async fn hold_down(
        &self,
        request: Request<v1::HoldDownRequest>,
    ) -> Result<Response<v1::HoldDownResponse>, Status> {
        self.fault("HoldDown").await?;
        let context = request.into_inner().context;
        self.check(&context)?;
        let was_running = self.change(|s| {
            s.held_down_by = context.map(|c| c.operation).unwrap_or_default();
            std::mem::replace(&mut s.alive, false)
        });
        Ok(Response::new(v1::HoldDownResponse {
            was_running,
            confirmed: true,
            how: if was_running {
                "SIGKILL"
            } else {
                "not running"
            }
            .into(),
        }))
    }

    async fn release_hold(
        &self,
        request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        self.fault("ReleaseHold").await?;
        self.check(&request.into_inner().context)?;
        let released = self.change(|s| !std::mem::take(&mut s.held_down_by).is_empty());
        Ok(Response::new(v1::ReleaseHoldResponse { released }))
    }

    async fn take_address(
        &self,
        request: Request<v1::TakeAddressRequest>,
    ) -> Result<Response<v1::TakeAddressResponse>, Status> {
        self.fault("TakeAddress").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let was_there = self.change(|s| {
            let fenced = request.holder_fenced;
            let before = s.address.replace((request.address.unwrap(), fenced));
            before.is_some()
        });
        Ok(Response::new(v1::TakeAddressResponse { was_there }))
    }

    async fn drop_address(
        &self,
        request: Request<v1::DropAddressRequest>,
    ) -> Result<Response<v1::DropAddressResponse>, Status> {
        self.fault("DropAddress").await?;
        self.check(&request.into_inner().context)?;
        let was_there = self.change(|s| s.address.take().is_some());
        Ok(Response::new(v1::DropAddressResponse { was_there }))
    }

    async fn get_address(
        &self,
        _: Request<v1::GetAddressRequest>,
    ) -> Result<Response<v1::GetAddressResponse>, Status> {
        self.fault("GetAddress").await?;
        let up = self.change(|s| s.address.is_some());
        let up = if up { v1::Answer::Yes } else { v1::Answer::No };
        Ok(Response::new(v1::GetAddressResponse {
            up: up.into(),
            ..Default::default()
        }))
    }
}
