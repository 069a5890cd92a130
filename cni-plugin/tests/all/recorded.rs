//! The requests of a tenant's whole lifecycle: each with its media types and body, in order, one snapshot for each dialect. A
//! change that is meant to keep the requests leaves these snapshots as they are.
//!
//! Cluster, tenant and networks are fixed, so that every id in the snapshots is the one that the code derives.

use std::fmt::Write as _;
use std::time::Duration;

use atoll_cni_plugin::add::AddCall;
use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::Mac;
use atoll_model::ids::TenantName;
use atoll_records::{ClusterRecord, Entry, Key, OwnerRecord, StaticRoute, TenantRecord, Via, decode};
use atoll_sdn_client::dialect::Dialect;
use atoll_sdn_client::transport::ApiRequest;
use atoll_store::{Store as _, StoreChange, Txn};
use atoll_tenant::admin::{self, Admin, Deletion, Edit};
use atoll_testkit::store::MemoryStore;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use ipnetwork::Ipv4Network;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::lab::{Lab, LabController, attachment, del};

const CLUSTER: Uuid = Uuid::from_u128(0xc);
const INCARNATION: Uuid = Uuid::from_u128(0x1);
const REQUEST_LIFETIME: Duration = Duration::from_secs(45);

fn red() -> TenantName {
    TenantName::new("red").expect("valid")
}

fn network(text: &str) -> Ipv4Network {
    text.parse().expect("valid")
}

/// The records of a tenant that a first pod made, with fixed ids and networks in place of the random ones, and in the phase
/// before any object is made. Second: the requests of a cluster's first pod before it created objects.
async fn records(dialect: Dialect) -> (Vec<Entry>, Vec<ApiRequest>) {
    let lab = Lab::cold_with(dialect);
    lab.controller.record();
    lab.add().await.expect("the first pod");
    let asked = lab.controller.take_recorded();
    lab.del().await.expect("the first pod goes");
    let mut entries = lab.etcd.dump();
    entries.retain(|entry| !entry.key.as_str().contains("/addresses/"));
    let record = |key: &Key| &entries.iter().find(|entry| entry.key == *key).expect("there is one").value;
    let cluster: ClusterRecord = decode(record(&Key::from(ClusterRecord::at()))).expect("a record");
    let tenant: TenantRecord = decode(record(&Key::from(TenantRecord::at(&red())))).expect("a record");
    let (transit, subnet) = (network("100.64.7.4/30"), network("10.200.5.0/24"));
    let random = [
        (cluster.id.to_string(), CLUSTER.to_string()),
        (tenant.incarnation.to_string(), INCARNATION.to_string()),
        (tenant.transit.to_string(), transit.to_string()),
        (tenant.subnets[0].prefixes[0].cidr.to_string(), subnet.to_string()),
        (tenant.subnets[0].prefixes[0].gateway.to_string(), "10.200.5.1".to_owned()),
    ];
    for entry in &mut entries {
        if entry.key == Key::from(OwnerRecord::transit(tenant.transit)) {
            entry.key = Key::from(OwnerRecord::transit(transit));
        } else if entry.key == Key::from(OwnerRecord::subnet(tenant.subnets[0].prefixes[0].cidr)) {
            entry.key = Key::from(OwnerRecord::subnet(subnet.into()));
        }
        if entry.value.is_empty() {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut entry.value)).expect("JSON");
        let text = random.iter().fold(text, |text, (random, fixed)| text.replace(random, fixed));
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        unbuilt(&mut value);
        entry.value = value.to_string().into_bytes();
    }
    let preamble = asked.into_iter().take_while(|request| request.method == Method::GET).collect();
    (entries, preamble)
}

/// Turns what is built into what has to be built.
fn unbuilt(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("phase") == Some(&json!("active")) {
                fields.insert("phase".to_owned(), json!("building"));
            }
            fields.values_mut().for_each(unbuilt);
        }
        Value::Array(list) => list.iter_mut().for_each(unbuilt),
        _ => {}
    }
}

/// Writes requests as text.
fn write(text: &mut String, title: &str, requests: &[ApiRequest]) {
    writeln!(text, "\n## {title}").expect("a string takes all");
    for ApiRequest { method, path, headers, body } in requests {
        writeln!(text, "{method} {path}").expect("a string takes all");
        for name in [CONTENT_TYPE, ACCEPT] {
            if let Some(value) = headers.get(&name) {
                writeln!(text, "    {name}: {}", value.to_str().expect("text")).expect("a string takes all");
            }
        }
        if !body.is_empty() {
            writeln!(text, "    {}", String::from_utf8_lossy(body)).expect("a string takes all");
        }
    }
}

async fn lifecycle(dialect: Dialect) -> String {
    let mut text = String::new();
    let (records, preamble) = Box::pin(records(dialect)).await;
    write(&mut text, "before the first object of a cluster", &preamble);

    let lab = Lab::cold_with(dialect);
    let put = |Entry { key, value, .. }: Entry| StoreChange::Put { key, value, lease: None };
    let then = records.into_iter().map(put).collect();
    lab.etcd.commit(Txn { then, ..Txn::default() }).await.expect("memory does not fail");
    lab.controller.record();
    let mut part = |title: &str| write(&mut text, title, &lab.controller.take_recorded());

    lab.add().await.expect("works");
    part("the tenant, and its first pod");
    lab.add().await.expect("works");
    part("the same ADD again");

    lab.kernel.add_netns("/netns/second");
    let second =
        AddCall { attachment: attachment("second", "eth0"), sandbox: "/netns/second".to_owned(), ..lab.call() };
    lab.plugin().add(&second).await.expect("works");
    part("a second pod");

    lab.kernel.add_netns("/netns/third");
    let subnet = lab.first_subnet();
    let addresses = (0..3).map(|n| subnet.nth(20 + n).expect("it is large enough").into()).collect();
    let third = AddCall {
        attachment: attachment("third", "eth0"),
        sandbox: "/netns/third".to_owned(),
        requested: AddressRequest { addresses, mac: Some(Mac([2, 0, 0x5e, 0x10, 0, 9])), subnet: None },
        ..lab.call()
    };
    lab.plugin().add(&third).await.expect("works");
    part("a pod with three addresses");

    let plugin = lab.plugin();
    let admin = Admin { store: &lab.etcd, engine: &plugin.engine, config: &plugin.config.cluster };
    Box::pin(operate(&admin, &mut part, subnet)).await;

    lab.plugin().del(&del(&third)).await.expect("works");
    part("DEL of the pod with three addresses");
    lab.plugin().del(&del(&second)).await.expect("works");
    part("DEL of the second pod");
    lab.add().await.expect("works");
    lab.forget();
    part("ADD of the first pod once more");
    lab.del().await.expect("works");
    part("DEL of the first pod by a node that has forgotten it");
    lab.collect().await.expect("works");
    part("GC that finds nothing");
    let deletion = Deletion { request_lifetime: REQUEST_LIFETIME, force: false };
    Box::pin(admin::delete(&admin, &red(), deletion, |_| {})).await.expect("deleted");
    part("the tenant is deleted");
    lab.assert_empty("afterwards");
    text
}

/// What an operator does with a tenant while it is in use.
async fn operate(admin: &Admin<'_, MemoryStore, LabController>, part: &mut impl FnMut(&str), subnet: Ipv4Network) {
    let route = |via| StaticRoute { destination: "10.9.0.0/16".parse().expect("valid"), via };
    let with = |route| Edit { add_routes: vec![route], ..Edit::default() };
    let exclude = ["10.130.0.1-10.130.0.9".parse().expect("a range")];
    let cidr = "10.130.0.0/24".parse().expect("valid");
    admin::add_subnet(admin, &red(), &[cidr], &exclude).await.expect("added");
    part("another subnet, with addresses that no pod gets");
    let hop = Via::Gateway(subnet.nth(9).expect("it is large enough").into());
    admin::set(admin, &red(), &with(route(hop)), REQUEST_LIFETIME, |_| {}).await.expect("set");
    part("a static route");
    admin::set(admin, &red(), &with(route(Via::Blackhole)), REQUEST_LIFETIME, |_| {}).await.expect("set");
    part("the route says something else");
    assert_eq!(Box::pin(admin::plan(admin, &red())).await.expect("planned"), []);
    part("the tenant is inspected");
    admin::repair(admin, &red(), REQUEST_LIFETIME).await.expect("repaired");
    part("the tenant is repaired");
    let destination = "10.9.0.0/16".parse().expect("valid");
    let without = Edit { remove_routes: vec![destination], ..Edit::default() };
    admin::set(admin, &red(), &without, REQUEST_LIFETIME, |_| {}).await.expect("set");
    part("the route is removed");
    Box::pin(admin::delete_subnet(admin, &red(), 2, REQUEST_LIFETIME, |_| {})).await.expect("deleted");
    part("the subnet is deleted");
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_tenants_lifecycle_on_5() {
    insta::assert_snapshot!(Box::pin(lifecycle(Dialect::V5)).await);
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_tenants_lifecycle_on_1_9() {
    insta::assert_snapshot!(Box::pin(lifecycle(Dialect::V1)).await);
}
