//! Another subnet for a tenant that is full.
//!
//! # Guarantees
//! - Of any number of pods that find the same record full, one adds a subnet, in one transaction that compares that
//!   record. The others find it changed and wait until the subnet is created, or create it themselves if the holder of
//!   the build lease dies.
//! - Nothing is added beyond the quota.
//! - Running pods and existing objects are not changed.

use atoll_ipam::pool::PodRange;
use atoll_records::{ClusterRecord, Phase, TenantRecord, Versioned};
use atoll_store::Store;

use super::Registry;
use crate::error::TenantError;
use atoll_network::Engine;

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// The tenant with more room than `full` has, its new subnet in use. `by`: who asks, for people.
    pub(crate) async fn grow(
        &self,
        by: &str,
        cluster: &Versioned<ClusterRecord>,
        full: Versioned<TenantRecord>,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let is_coming = full.record.subnets.iter().any(|subnet| subnet.phase == Phase::Building);
        let tenant = if is_coming {
            full
        } else {
            within_quota(&full.record)?;
            tracing::info!(tenant = %full.record.name, "full: another subnet");
            self.extend(&cluster.record, &full, &[], &[]).await?
        };
        self.finish(by, cluster, tenant, false).await
    }
}

/// More subnets are of no use to a tenant that may not have more addresses than those it has hold.
fn within_quota(tenant: &TenantRecord) -> Result<(), TenantError> {
    match tenant.quota.addresses {
        Some(most) if capacity(tenant) >= u128::from(most) => {
            Err(TenantError::Quota { tenant: tenant.name.clone(), what: "addresses", most })
        }
        _ => Ok(()),
    }
}

/// How many pods have room in the subnets that are not going.
fn capacity(tenant: &TenantRecord) -> u128 {
    let living = tenant.subnets.iter().filter(|subnet| subnet.phase != Phase::Deleting);
    living.map(|subnet| PodRange::room(&subnet.prefixes, &subnet.exclude)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::tenant;

    #[test]
    fn a_quota_of_addresses_that_the_subnets_reach_leaves_no_room_to_grow() {
        let mut record = tenant(2);
        assert_eq!(capacity(&record), 506);
        assert!(within_quota(&record).is_ok());
        for (most, fine) in [(505, false), (506, false), (507, true)] {
            record.quota.addresses = Some(most);
            assert_eq!(within_quota(&record).is_ok(), fine, "{most}");
        }
        // A subnet that is going gives no room.
        record.quota.addresses = Some(506);
        record.subnets[0].phase = Phase::Deleting;
        assert!(within_quota(&record).is_ok());
    }
}
