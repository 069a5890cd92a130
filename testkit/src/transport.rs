//! A transport to the controller that fails on demand: every request consults a fault plan first.

use std::sync::Arc;

use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};

use crate::fault::FaultPlan;

/// Wraps a transport.
#[derive(Clone)]
pub struct FaultyTransport<T> {
    inner: Arc<T>,
    plan: FaultPlan,
}

impl<T> FaultyTransport<T> {
    /// Wraps `inner`; `plan` decides what fails.
    pub fn new(inner: T, plan: FaultPlan) -> Self {
        Self { inner: Arc::new(inner), plan }
    }
}

impl<T: Transport + 'static> Transport for FaultyTransport<T> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        let what = format!("controller: {} {}", request.method, request.path);
        let endpoint = "fault plan".to_owned();
        let inner = Arc::clone(&self.inner);
        self.plan
            .effect(
                || what,
                async move { inner.send(request).await },
                || TransportError::NoAnswer { endpoint: endpoint.clone(), reason: "the reply was lost".to_owned() },
                || TransportError::NotSent { endpoint: endpoint.clone(), reason: "refused".to_owned() },
            )
            .await
    }

    fn endpoints(&self) -> usize {
        self.inner.endpoints()
    }
}
