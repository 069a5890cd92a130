//! Who takes part in a schedule.

use std::collections::BTreeSet;
use std::net::IpAddr;

use atoll_ipam::{
    ClaimRequest, Claimed, IpamError, Released, ReserveRequest, claim, find, lift, put_tombstone, release,
    remove_tombstone, reservations, reserve,
};
use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::Incarnation;
use atoll_records::{
    AddressRecord, ClaimRecord, FIRST_ENGINE, Key, Phase, Query, SCHEMA, TenantRecord, TombstoneKind, TombstoneRecord,
    Unknown, decode, encode,
};
use atoll_store::{Choice, Committed, Compare, Store, StoreChange, Txn};

use super::schedule::{Rng, Yielding, step};
use super::{Model, Process};
use atoll_testkit::fixture::{attachment, tenant_name};

/// A container runtime with one attachment: ADD until it works or it is tired of it, run for a while, DEL until it
/// works. Processes die under it.
pub(crate) async fn runtime(model: &Model, number: usize, mut rng: Rng) {
    let at = attachment(&format!("c{number}"));
    let pod = format!("pod-{number}");
    for _ in 0..model.setup.cycles {
        // An ADD died: any of its requests may have taken effect, and may still. One that succeeds ends this: its release
        // will leave the mark that makes every late request lose.
        let requested = requested(model, &mut rng);
        let dirty = loop {
            match model
                .process(&mut rng, &at, async |store: &Process| add(model, store, &at, &pod, &requested).await)
                .await
            {
                Some(Ok(claim)) => {
                    if let Some(problem) = unmet(&requested, &claim) {
                        model.complain(problem);
                    }
                    model.alive.borrow_mut().insert(at.clone(), claim);
                    break false;
                }
                Some(Err(error)) => judge(model, &error),
                None => {}
            }
            if rng.chance(40) {
                break true;
            }
        };
        for _ in 0..rng.below(6) {
            step().await;
        }
        // From here on the address is unused.
        model.alive.borrow_mut().remove(&at);
        while !matches!(
            model.process(&mut rng, &at, async |store: &Process| delete(model, store, &at, dirty).await).await,
            Some(Ok(()))
        ) {}
    }
    model.busy.set(model.busy.get() - 1);
}

/// The request of an ADD: mostly none, else one to three addresses (some of them not available to pods), or one of two MACs,
/// of which one could be a derived one.
fn requested(model: &Model, rng: &mut Rng) -> AddressRequest {
    let mut requested = AddressRequest::default();
    if rng.chance(model.setup.requests) {
        for _ in 0..=rng.below(3) {
            let address = model.any_address(rng);
            if !requested.addresses.contains(&address) {
                requested.addresses.push(address);
            }
        }
    }
    if rng.chance(model.setup.requests) {
        requested.mac = Some(MACS[rng.index(MACS.len())]);
    }
    requested
}

/// The MACs that clients and the keeper like.
const MACS: [Mac; 2] = [Mac([0, 0x1c, 0x42, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 1])];

/// A claim that is not what was asked for.
fn unmet(requested: &AddressRequest, claim: &ClaimRecord) -> Option<String> {
    let has: Vec<_> = claim.addresses.iter().map(|address| address.address.ip()).collect();
    // Of a family without a request one address; that it has each family is an invariant.
    let of_family = |v4: bool| {
        let all = |addresses: &[IpAddr]| -> BTreeSet<_> {
            addresses.iter().filter(|it| it.is_ipv4() == v4).copied().collect()
        };
        let (requested, has) = (all(&requested.addresses), all(&has));
        requested == has || requested.is_empty() && has.len() == 1
    };
    let met = of_family(true) && of_family(false) && requested.mac.is_none_or(|mac| mac == claim.mac);
    (!met).then(|| format!("{} asked for {requested} and got {has:?} with {}", claim.attachment, claim.mac))
}

/// What an ADD may fail with.
fn judge(model: &Model, error: &IpamError) {
    match error {
        // Every client gets an address because another one's early release makes room.
        IpamError::Exhausted { .. } | IpamError::Contended { .. }
            if model.setup.clients <= capacity(model) && model.setup.requests == 0 && !model.setup.keeper =>
        {
            model.complain(format!("a claim failed although there is room: {error}"));
        }
        // The requested address or MAC has another owner, or can never be assigned.
        IpamError::Taken { .. } | IpamError::MacTaken { .. } | IpamError::Impossible { .. }
            if model.setup.requests > 0 => {}
        IpamError::Reserved { .. }
        | IpamError::Reservation { .. }
        | IpamError::Taken { .. }
        | IpamError::MacTaken { .. }
            if model.setup.keeper => {}
        IpamError::Contended { .. } if model.setup.requests > 0 || model.setup.keeper => {}
        IpamError::Store { .. } | IpamError::Deleting { .. } | IpamError::Exhausted { .. } => {}
        other => model.complain(format!("a claim failed: {other}")),
    }
}

fn capacity(model: &Model) -> usize {
    model.places().len()
}

async fn add(
    model: &Model,
    store: &Process,
    at: &Attachment,
    pod: &str,
    requested: &AddressRequest,
) -> Result<ClaimRecord, IpamError> {
    loop {
        let believed = model.cache.borrow().clone();
        match claim(store, &ClaimRequest { pod: Some(pod), requested, ..believed.request(at, None) }).await? {
            Claimed::New(claim) | Claimed::Already(claim) => return Ok(claim.record),
            Claimed::Stale(current) => {
                let mut cache = model.cache.borrow_mut();
                if let Some(tenant) = current.tenant {
                    (cache.tenant, cache.guards.tenant) = (tenant.record, tenant.mod_revision);
                }
            }
            Claimed::Blocked(tombstone) => {
                // What a DEL has left behind is for a DEL to finish.
                delete_with(model, store, at, Some(tombstone.mod_revision)).await?;
            }
        }
    }
}

async fn delete(model: &Model, store: &Process, at: &Attachment, dirty: bool) -> Result<(), IpamError> {
    if dirty {
        let fence = TombstoneRecord {
            v: SCHEMA,
            engine: FIRST_ENGINE.to_owned(),
            kind: TombstoneKind::Fence,
            attachment: at.clone(),
            port: None,
            not_before: 0,
            since: 0,
            note: String::new(),
            deletion_sent: false,
            unknown: Unknown::new(),
        };
        put_tombstone(store, &fence, None).await?;
        // The maximum request lifetime is over: no request of the dead ADD can arrive any more.
        let own = |choice: &Choice| choice.changes().any(|change| *change.key() == Key::from(ClaimRecord::at(at)));
        while model.late.borrow().iter().any(|(late, _)| late == at) || model.postponed.borrow().iter().any(own) {
            step().await;
        }
    }
    delete_with(model, store, at, None).await
}

async fn delete_with(
    model: &Model,
    store: &Process,
    at: &Attachment,
    seen: Option<atoll_records::Revision>,
) -> Result<(), IpamError> {
    let mut found = find(store, at).await?;
    loop {
        let tombstone = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision).or(seen);
        match (&found.claim, tombstone) {
            (Some(claim), tombstone) => {
                model.ghosts.borrow_mut().push((claim.clone(), tombstone));
                match release(store, claim, tombstone, model.setup.cooldown).await? {
                    Released::Done => return Ok(()),
                    Released::Changed(now) => found = now,
                }
            }
            (None, Some(tombstone)) => {
                if remove_tombstone(store, at, tombstone).await? {
                    return Ok(());
                }
                found = find(store, at).await?;
            }
            (None, None) => return Ok(()),
        }
    }
}

/// DELs that pause after they have read the claim, and continue long after another call has finished their work.
pub(crate) async fn ghosts(model: &Model, mut rng: Rng) {
    let store = Yielding(model.store());
    while model.busy.get() > 0 || !model.ghosts.borrow().is_empty() {
        step().await;
        let next = {
            let mut ghosts = model.ghosts.borrow_mut();
            let count = ghosts.len();
            (count > 0 && rng.chance(30)).then(|| ghosts.swap_remove(rng.index(count)))
        };
        let Some((claim, tombstone)) = next else { continue };
        if let Err(error) = release(&store, &claim, tombstone, model.setup.cooldown).await {
            model.complain(format!("a late release failed: {error}"));
        }
    }
}

/// Delivers what dead processes had sent, in any order.
pub(crate) async fn network(model: &Model, mut rng: Rng) {
    let done = || model.busy.get() == 0 && !model.keeping.get();
    while !done() || !model.late.borrow().is_empty() || !model.postponed.borrow().is_empty() {
        step().await;
        let postponed = model.postponed.borrow().len();
        if postponed > 0 && rng.chance(5) {
            let choice = model.postponed.borrow_mut().swap_remove(rng.index(postponed));
            // The store decides whether its conditions still hold; the answer is discarded.
            drop(model.memory.commit_first(choice).await);
        }
        let count = model.late.borrow().len();
        if count > 0 && rng.chance(20) {
            let index = rng.index(count);
            let plan = model.late.borrow()[index].1.clone();
            plan.deliver_late().await;
            model.late.borrow_mut().swap_remove(index);
        }
    }
}

/// Deletes the tenant when it is empty, and makes it anew.
pub(crate) async fn operator(model: &Model, mut rng: Rng) {
    let store = Yielding(model.store());
    let key = Key::from(TenantRecord::at(&tenant_name()));
    while model.busy.get() > 0 {
        step().await;
        if !rng.chance(20) {
            continue;
        }
        let snapshot = store.read(vec![Query::Key(key.clone())]).await.expect("memory");
        let entry = snapshot.entry(&key).expect("asked").expect("the tenant");
        let mut tenant: TenantRecord = decode(&entry.value).expect("readable");
        tenant.phase = Phase::Deleting;
        let write = async |tenant: &TenantRecord, seen| {
            let then = vec![StoreChange::Put { key: key.clone(), value: encode(tenant), lease: None }];
            let txn =
                Txn { compare: vec![Compare::Modified(key.clone(), seen)], then, read: Vec::new(), otherwise: vec![] };
            match store.commit(txn).await.expect("memory") {
                Committed::Yes(done) => done.revision,
                // Only the defect that removes this comparison lets it through.
                Committed::Lost(_) => panic!("only the operator writes the tenant"),
            }
        };
        let seen = write(&tenant, entry.mod_revision).await;
        let all = Query::all(AddressRecord::of_tenant(&tenant_name()));
        let snapshot = store.read(vec![all.clone()]).await.expect("memory");
        // An address in cool-down has no owner.
        let claimed = snapshot.answer(&all).expect("asked").entries.iter().any(|entry| entry.lease.is_none());
        if !claimed {
            model.emptied.set(true);
            for _ in 0..rng.below(20) {
                step().await;
            }
            model.emptied.set(false);
            tenant.incarnation = Incarnation::random();
        }
        tenant.phase = Phase::Active;
        write(&tenant, seen).await;
    }
}

/// Reserves addresses for pods, and lifts reservations; in the end all of them.
pub(crate) async fn keeper(model: &Model, mut rng: Rng) {
    let desk = attachment("keeper");
    while model.busy.get() > 0 {
        step().await;
        if !rng.chance(10) {
            continue;
        }
        let address = model.any_address(&mut rng);
        let request = ReserveRequest {
            tenant: tenant_name(),
            address,
            namespace: model.cache.borrow().namespace.clone(),
            pod: format!("pod-{}", rng.index(model.setup.clients)).parse().expect("valid"),
            mac: rng.chance(30).then(|| MACS[rng.index(MACS.len())]),
        };
        let up = rng.chance(50);
        let which = rng.index(64);
        let done = async |store: &Process| -> Result<(), IpamError> {
            if up {
                return reserve(store, &request, false).await.map(drop);
            }
            let there = reservations(store, None).await?;
            let Some(index) = which.checked_rem(there.len()) else { return Ok(()) };
            lift(store, &there[index].record, false).await.map(drop)
        };
        match model.process(&mut rng, &desk, done).await {
            None
            | Some(
                Ok(())
                | Err(
                    IpamError::Taken { .. }
                    | IpamError::MacTaken { .. }
                    | IpamError::Reserved { .. }
                    | IpamError::Reservation { .. }
                    | IpamError::Impossible { .. }
                    | IpamError::Deleting { .. }
                    | IpamError::Store { .. },
                ),
            ) => {}
            Some(Err(error)) => model.complain(format!("the keeper failed: {error}")),
        }
    }
    model.keeping.set(false);
    // What dead keepers had sent has arrived by then.
    while !model.late.borrow().is_empty() {
        step().await;
    }
    let store = model.store();
    for there in reservations(&store, None).await.unwrap_or_default() {
        if let Err(error) = lift(&store, &there.record, false).await {
            model.complain(format!("a reservation cannot be lifted in the end: {error}"));
        }
    }
}
