//! From observations to findings: what is correct, what is not, what that means and how to repair it. Pure.

mod finding;
mod names;
mod node;
mod ovn;
#[cfg(test)]
mod ovn_tests;
mod records;
mod servers;
#[cfg(test)]
mod tests;

pub(crate) use self::finding::{DoctorFinding, Level};
use super::seen::{DoctorEvidence, EngineEvidence};

/// Judges everything, in the order in which a pod needs it.
pub(crate) fn judge(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    let mut findings = node::configuration(seen);
    if let Some(site) = &seen.site {
        findings.extend(node::machine(site));
        findings.extend(node::secrets(site));
        findings.extend(node::certificates(site, seen.now));
        findings.extend(servers::etcd(site));
        match &site.engine {
            EngineEvidence::MidoNet(engine) => {
                findings.extend(servers::controllers(engine));
                findings.extend(servers::clocks(site));
                findings.extend(servers::host(engine, site, seen));
            }
            EngineEvidence::Ovn(engine) => {
                findings.extend(servers::clocks(site));
                findings.extend(ovn::judge(engine, site, seen.now));
            }
        }
        findings.extend(records::cluster(site));
    }
    findings.extend(seen.names.iter().flat_map(names::judge));
    findings.extend(node::addressing(seen));
    findings.extend(node::kernel(seen));
    findings.extend(node::plugins(seen));
    findings.extend(node::conflists(seen));
    findings.extend(node::runtimes(seen));
    if let (Some(site), Ok((_, config))) = (&seen.site, &seen.config) {
        findings.extend(records::claims(site, seen, config));
        findings.extend(records::interfaces(site));
        if let EngineEvidence::Ovn(engine) = &site.engine {
            findings.extend(ovn::owners(engine, site));
        }
        findings.extend(records::attachment_states(site, config, seen.now));
        findings.extend(records::tombstones(site, seen.now));
    }
    findings
}
