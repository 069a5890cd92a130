//! Many concurrent pods, in tenants that do not exist yet.

use std::collections::BTreeSet;

use anyhow::Result;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::json;

const TENANTS: usize = 4;
const PODS: usize = 32;

#[test]
fn pods_that_come_at_once_get_addresses_of_their_own() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pods = (0..PODS)
        .map(|number| LabPod::new(&format!("tenant-{}", number % TENANTS), &format!("pod-{number}")))
        .collect::<Result<Vec<_>>>()?;
    let attached = at_once(&pods, |pod| cni.add(pod))?;

    for tenant in 0..TENANTS {
        let of_tenant = attached.iter().skip(tenant).step_by(TENANTS).map(|at| at.address.ip());
        assert_eq!(
            of_tenant.collect::<BTreeSet<_>>().len(),
            PODS / TENANTS,
            "an address twice in one tenant: {attached:?}"
        );
    }
    let macs: BTreeSet<_> = attached.iter().map(|at| &at.mac).collect();
    assert_eq!(macs.len(), PODS, "a MAC twice");
    for (pod, at) in pods.iter().zip(&attached) {
        assert!(ping(&pod.netns, at.gateway)?, "{} does not reach its gateway {}", pod.name, at.gateway);
        let sibling =
            pods.iter().zip(&attached).find(|(one, _)| one.namespace == pod.namespace && one.name != pod.name);
        let (sibling, there) = sibling.expect("eight pods in a tenant");
        assert!(ping(&pod.netns, there.address.ip())?, "{} does not reach {}", pod.name, sibling.name);
    }
    at_once(&pods, |pod| cni.del(pod))?;
    node.finish()
}

fn at_once<T: Send>(pods: &[LabPod], work: impl Fn(&LabPod) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
