//! The controller as a transport: the client's requests without a network in between. For tests.

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

use atoll_sdn_client::transport::{Request, Response, Transport, TransportError};
use tokio::time::Instant;
use uuid::Uuid;

use crate::controller::Controller;
use crate::faults::Delivery;
use crate::settings::Settings;
use crate::state::Tables;

/// A controller that several clients of one thread share. Clones are the same controller.
#[derive(Clone, Debug)]
pub struct InProcess {
    controller: Rc<RefCell<Controller>>,
    started: Instant,
    /// Requests in the order in which they arrived; none: they are not recorded.
    recorded: Rc<RefCell<Option<Vec<Request>>>>,
}

impl InProcess {
    /// Starts a controller. Its time is tokio's, so that a paused clock works.
    pub fn new(settings: Settings) -> Self {
        let controller = Rc::new(RefCell::new(Controller::new(settings)));
        Self { controller, started: Instant::now(), recorded: Rc::default() }
    }

    /// Records every request that arrives from now on.
    pub fn record(&self) {
        self.recorded.borrow_mut().get_or_insert_default();
    }

    /// The requests that arrived since [`InProcess::record`] or since the last call of this function.
    pub fn take_recorded(&self) -> Vec<Request> {
        self.recorded.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Answers one request at once; faults pass it by.
    pub fn call(&self, request: &Request) -> Response {
        let mut controller = self.controller.borrow_mut();
        controller.advance(self.started.elapsed());
        controller.begin();
        controller.handle(request)
    }

    /// Every object there is: to compare, to print, to look into.
    pub fn dump(&self) -> Tables {
        self.controller.borrow().tables().clone()
    }

    /// Says whether a port's packets flow.
    pub fn set_active(&self, port: Uuid, active: bool) {
        self.controller.borrow_mut().set_active(port, active);
    }

    /// Says whether a host's agent is there.
    pub fn set_host_alive(&self, host: Uuid, alive: bool) {
        self.controller.borrow_mut().set_host_alive(host, alive);
    }

    /// The controller, to read. Not across an await.
    pub fn controller(&self) -> Ref<'_, Controller> {
        self.controller.borrow()
    }

    /// The controller, to change. Not across an await.
    pub fn controller_mut(&self) -> RefMut<'_, Controller> {
        self.controller.borrow_mut()
    }
}

impl Transport for InProcess {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if let Some(recorded) = self.recorded.borrow_mut().as_mut() {
            recorded.push(request.clone());
        }
        let fate = {
            let mut controller = self.controller.borrow_mut();
            controller.begin();
            controller.fate(&request)
        };
        if !fate.delay().is_zero() {
            tokio::time::sleep(fate.delay()).await;
        }
        let mut controller = self.controller.borrow_mut();
        controller.advance(self.started.elapsed());
        match controller.deliver(&request, &fate) {
            Delivery::Whole(answer) => Ok(answer.whole()),
            // Who sent a request and got half an answer knows no more than who got none.
            Delivery::Truncated(..) | Delivery::Cut => Err(TransportError::NoAnswer {
                endpoint: "mock controller".to_owned(),
                reason: "the connection was cut".to_owned(),
            }),
        }
    }
}
