//! The checks of an ADD before it has an effect, and after the claim before it makes port and interface.

use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_network::Engine;
use atoll_records::{ClaimRecord, Phase, SubnetEntry};
use atoll_store::Store;
use atoll_tenant::TenantBinding;

use super::adding::Adding;
use super::routes::{impossible, routes_by};
use crate::error::CallError;
use crate::kernel::Kernel;

impl<S: Store, E: Engine, K: Kernel> Adding<'_, S, E, K> {
    /// The configured routes fit the pod's subnet: the kernel would refuse them when all else is made.
    pub(super) fn refuse_routes(&self, claim: &ClaimRecord) -> Result<(), CallError> {
        let own: Vec<_> = claim.addresses.iter().map(|address| address.address).collect();
        impossible(&self.routes(claim), &own, self.mtu).map_or(Ok(()), Err)
    }

    /// The same before the claim: refused if the routes fit no subnet that the pod could get.
    pub(super) fn refuse_routes_anywhere(&self, binding: &TenantBinding) -> Result<(), CallError> {
        let AddressRequest { addresses, subnet, .. } = &self.call.requested;
        let is_meant = |entry: &&SubnetEntry| {
            let chosen = subnet.is_none_or(|choice| match choice {
                SubnetChoice::Ordinal(ordinal) => ordinal == entry.ordinal,
                SubnetChoice::Cidr(cidr) => entry.prefixes.iter().any(|prefix| prefix.cidr == cidr),
            });
            chosen && addresses.first().is_none_or(|address| entry.contains(*address))
        };
        let active = binding.tenant.record.subnets.iter().filter(|entry| entry.phase == Phase::Active);
        let mut refused = None;
        for entry in active.filter(is_meant) {
            let gateways: Vec<_> = entry.prefixes.iter().map(|prefix| prefix.gateway).collect();
            let prefixes: Vec<_> = entry.prefixes.iter().map(|prefix| prefix.cidr).collect();
            let routes = routes_by(&gateways, &self.call.attachment.interface, &self.plugin.config.routes);
            match impossible(&routes, &prefixes, self.mtu) {
                None => return Ok(()),
                Some(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
