//! A checker of the allocator: clients that claim, die, come back and release, interleaved at every call of the store
//! by a seeded scheduler, and the invariants, checked after every change.
//!
//! | module | what |
//! |---|---|
//! | [`schedule`] | randomness, the yield before every call, and who goes next |
//! | [`clients`] | what a runtime, a ghost of an old DEL, the network and operators do |
//! | [`invariants`] | what must hold at every moment, and at the end |
//! | [`kept`] | the same, of reservations and chosen MACs |
//! | [`defects`] | what may be wrong with a transaction |
//!
//! The store can be broken on purpose ([`Broken`]): a rewriting of the transactions as they pass stands for a defect of
//! the allocator, so that the checker itself can be shown to find it.

pub(crate) mod clients;
pub(crate) mod defects;
pub(crate) mod invariants;
pub(crate) mod kept;
pub(crate) mod schedule;

use atoll_testkit::cell::{SyncCell, SyncRefCell};
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::attachment::Attachment;

use atoll_model::range::AddressRange;
use atoll_records::{ClaimRecord, Key, Lease, Phase, PrefixEntry, Query, Revision, Snapshot, Versioned};
use atoll_store::{Case, Choice, Chosen, Store, StoreError};

use atoll_testkit::fixture::{Fixture, subnet};
use schedule::{Rng, Yielding};

/// The parameters of a schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The networks of the tenant's subnet, one or two.
    pub(crate) cidrs: &'static str,
    /// How many attachments live at a time.
    pub(crate) clients: usize,
    /// How often each comes and goes.
    pub(crate) cycles: u32,
    /// How many of a hundred processes meet a fault.
    pub(crate) faults: u64,
    /// An operator deletes and recreates the tenant meanwhile.
    pub(crate) operator: bool,
    /// How many of a hundred cycles request certain addresses, and how many for a MAC.
    pub(crate) requests: u64,
    /// An operator reserves addresses for pods meanwhile, and lifts reservations.
    pub(crate) keeper: bool,
    /// Addresses that no pod may have, if any.
    pub(crate) exclude: Option<&'static str>,
    /// Clients have lost the exclusions from their cache: a defect.
    pub(crate) blind: bool,
    /// The cool-down; the clock stands still, so it never ends.
    pub(crate) cooldown: Duration,
    /// What is broken; nothing usually.
    pub(crate) defect: Defect,
}

/// What a process may meet. A request that is lost is like one that is postponed, until that arrives. A seed means the same
/// schedule as long as this list stays as it is.
const FAULTS: [Fault; 5] = [Fault::CrashBefore, Fault::CrashAfter, Fault::CrashLate, Fault::LostReply, Fault::Refused];

/// A rewriting of each case of a transaction as it passes.
pub(crate) type Defect = fn(usize, &mut Case);

/// The store as a process sees it.
pub(crate) type Process = Yielding<FaultyStore<Broken>>;

/// The observable state, and the checker's model of it.
pub(crate) struct Model {
    pub(crate) setup: Setup,
    /// What no pod may have.
    pub(crate) exclude: Vec<AddressRange>,
    pub(crate) memory: MemoryStore,
    /// The cache of the node; processes bring it up to date when they find it stale.
    pub(crate) cache: SyncRefCell<Fixture>,
    /// The claims that pods are running on.
    pub(crate) alive: SyncRefCell<BTreeMap<Attachment, ClaimRecord>>,
    /// Claims that a DEL has read and may release at any later time.
    pub(crate) ghosts: SyncRefCell<Vec<(Versioned<ClaimRecord>, Option<Revision>)>>,
    /// Requests of dead processes that have not arrived.
    pub(crate) late: SyncRefCell<Vec<(Attachment, FaultPlan)>>,
    /// Requests of living processes whose outcome was reported as unknown, and which have not arrived.
    pub(crate) postponed: Arc<SyncRefCell<Vec<Choice>>>,
    /// The tenant was found empty and is being deleted.
    pub(crate) emptied: SyncCell<bool>,
    /// Runtimes that are not done.
    pub(crate) busy: SyncCell<usize>,
    /// The keeper is not done.
    pub(crate) keeping: SyncCell<bool>,
    /// What clients found wrong themselves.
    pub(crate) complaints: SyncRefCell<Vec<String>>,
}

impl Model {
    pub(crate) async fn new(setup: Setup) -> Self {
        let memory = MemoryStore::new();
        let mut entry = subnet(0, setup.cidrs, Phase::Active);
        let exclude: Vec<_> = setup.exclude.iter().map(|range| range.parse().expect("a range")).collect();
        entry.exclude = if setup.blind { Vec::new() } else { exclude.clone() };
        let fixture = Fixture::new(&memory, vec![entry]).await;
        Self {
            setup,
            exclude,
            memory,
            cache: SyncRefCell::new(fixture),
            alive: SyncRefCell::default(),
            ghosts: SyncRefCell::default(),
            late: SyncRefCell::default(),
            postponed: Arc::default(),
            emptied: SyncCell::new(false),
            busy: SyncCell::new(0),
            keeping: SyncCell::new(setup.keeper),
            complaints: SyncRefCell::default(),
        }
    }

    /// A random address of the subnet, also one that no pod can have.
    pub(crate) fn any_address(&self, rng: &mut Rng) -> IpAddr {
        let prefixes = &self.cache.borrow().tenant.subnets[0].prefixes;
        let index = if prefixes.len() > 1 { rng.index(prefixes.len()) } else { 0 };
        let cidr = prefixes[index].cidr;
        let width = if cidr.is_ipv4() { 32 } else { 128 };
        cidr.iter().nth(rng.index(1 << (width - cidr.prefix()))).expect("inside")
    }

    /// The addresses that a pod gets together: one of each network, at the same place among those that pods may have.
    pub(crate) fn places(&self) -> Vec<Vec<IpAddr>> {
        let prefixes = &self.cache.borrow().tenant.subnets[0].prefixes;
        let of = |prefix: &PrefixEntry| -> Vec<IpAddr> {
            let PrefixEntry { cidr, gateway } = *prefix;
            let is_excluded = |address: IpAddr| self.exclude.iter().any(|range| range.contains(address));
            let broadcast = cidr.is_ipv4().then(|| cidr.broadcast());
            let is_for_pods = |address: &IpAddr| {
                ![cidr.network(), gateway].contains(address) && Some(*address) != broadcast && !is_excluded(*address)
            };
            cidr.iter().filter(is_for_pods).collect()
        };
        let all: Vec<_> = prefixes.iter().map(of).collect();
        let places = all.iter().map(Vec::len).min().unwrap_or(0);
        (0..places).map(|place| all.iter().map(|of_family| of_family[place]).collect()).collect()
    }

    pub(crate) fn complain(&self, what: String) {
        self.complaints.borrow_mut().push(what);
    }

    /// Runs a process of an attachment, which may meet a fault. None: it died.
    pub(crate) async fn process<T>(
        &self,
        rng: &mut Rng,
        attachment: &Attachment,
        program: impl AsyncFnOnce(&Process) -> T,
    ) -> Option<T> {
        let plan = FaultPlan::none();
        if rng.below(100) < self.setup.faults {
            let fault = FAULTS[rng.index(FAULTS.len())];
            plan.arm(rng.index(6), fault);
        }
        let store = self.store();
        if rng.below(100) < self.setup.faults / 2 {
            store.postpone.set(Some(rng.below(4)));
        }
        let process = Yielding(FaultyStore::new(store, plan.clone()));
        let result = plan.run(program(&process)).await;
        if result.is_none() {
            self.late.borrow_mut().push((attachment.clone(), plan));
        }
        result
    }

    /// The store without faults, for those who are not under test.
    pub(crate) fn store(&self) -> Broken {
        Broken {
            memory: self.memory.clone(),
            defect: self.setup.defect,
            postpone: Arc::default(),
            postponed: Arc::clone(&self.postponed),
        }
    }
}

/// A memory store whose transactions are rewritten on the way.
#[derive(Clone)]
pub(crate) struct Broken {
    memory: MemoryStore,
    defect: Defect,
    /// After so many claims and releases, one gets no answer and arrives later.
    postpone: Arc<SyncCell<Option<u64>>>,
    postponed: Arc<SyncRefCell<Vec<Choice>>>,
}

impl Store for Broken {
    type Watch = atoll_testkit::store::MemoryWatch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.memory.read(queries).await
    }

    async fn commit_first(&self, mut choice: Choice) -> Result<Chosen, StoreError> {
        choice.cases.iter_mut().enumerate().for_each(|(index, case)| (self.defect)(index, case));
        if choice.changes().any(|change| change.key().as_str().starts_with("v2/claims/")) {
            match self.postpone.get() {
                Some(0) => {
                    self.postpone.set(None);
                    self.postponed.borrow_mut().push(choice);
                    let (endpoint, reason) = ("checker".to_owned(), "postponed".to_owned());
                    return Err(StoreError::Unknown { endpoint, reason });
                }
                wait => self.postpone.set(wait.map(|wait| wait - 1)),
            }
        }
        self.memory.commit_first(choice).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<Self::Watch, StoreError> {
        self.memory.watch(prefix, after).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.memory.lease(ttl).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        self.memory.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        self.memory.keep_alive(lease).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        self.memory.revoke(lease).await
    }
}
