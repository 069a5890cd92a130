//! `cluster`: written once, by the first who needs it; from then on every node's file must agree with it.

use atoll_records::{ClusterRecord, Versioned, schema_of};

use atoll_ipam::pool::{Block, TRANSIT_PREFIX};
use atoll_model::config::{Addressing, ClusterConfig, Ipv6Pools};
use atoll_model::ids::{ClusterId, Epoch};
use atoll_store::Store;
use ipnetwork::{IpNetwork, Ipv4Network};
use uuid::Uuid;

use super::Registry;
use crate::error::{TenantError, shown};
use atoll_network::Engine;

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// The cluster's record, which agrees with this node's file.
    pub(crate) async fn ensure_cluster(
        &self,
        seen: Option<Versioned<ClusterRecord>>,
    ) -> Result<Versioned<ClusterRecord>, TenantError> {
        let cluster = if let Some(cluster) = seen {
            cluster
        } else {
            possible(self.config)?;
            able(self.engine, self.config).await?;
            let provider = self.provider_router().await?;
            self.create_once(&ClusterRecord::at(), record(self.config, self.engine.name(), provider)).await?
        };
        agree(self.config, self.engine.name(), &cluster.record)?;
        Ok(cluster)
    }

    /// The provider router: as configured, else the only candidate.
    async fn provider_router(&self) -> Result<Uuid, TenantError> {
        if let Some(router) = self.config.provider_router {
            return Ok(router);
        }
        let candidates =
            self.engine.provider_candidates().await.map_err(TenantError::engine("find the provider router"))?;
        match candidates.as_slice() {
            [only] => Ok(only.id),
            _ => Err(TenantError::Provider { candidates }),
        }
    }
}

pub(crate) fn record(config: &ClusterConfig, engine: &str, provider_router: Uuid) -> ClusterRecord {
    ClusterRecord {
        v: schema_of(engine),
        id: ClusterId::random(),
        epoch: Epoch::random(),
        engine: engine.to_owned(),
        addressing: config.addressing,
        pod_cidr: bare(config.pod_cidr),
        subnet_prefix: config.subnet_prefix,
        transit_cidr: bare(config.transit_cidr),
        ipv4: config.ipv4,
        ipv6: config.ipv6,
        node_side_cidr: bare(config.node_side_cidr),
        service_cidr: config.service_cidr.map(bare),
        provider_router,
        provider: None,
        unknown: serde_json::Map::new(),
    }
}

/// Whether these settings are valid for a cluster.
pub fn possible(config: &ClusterConfig) -> Result<(), TenantError> {
    let pools =
        [("podCidr", config.pod_cidr), ("transitCidr", config.transit_cidr), ("nodeSideCidr", config.node_side_cidr)];
    let pools = pools.into_iter().chain(config.service_cidr.map(|cidr| ("serviceCidr", cidr)));
    let pools: Vec<_> = pools.map(|(setting, cidr)| (setting, IpNetwork::V4(cidr))).collect();
    for (n, &(first, first_cidr)) in pools.iter().enumerate() {
        for &(second, second_cidr) in &pools[n + 1..] {
            if Block::from(first_cidr).overlaps(Block::from(second_cidr)) {
                return Err(TenantError::Overlap { first, first_cidr, second, second_cidr });
            }
        }
    }
    if !(config.pod_cidr.prefix()..=30).contains(&config.subnet_prefix) {
        return Err(TenantError::Setting {
            setting: "subnetPrefix",
            value: config.subnet_prefix.to_string(),
            problem: "it must be at least the prefix length of `cluster.podCidr` and at most 30",
        });
    }
    if config.transit_cidr.prefix() > TRANSIT_PREFIX {
        return Err(TenantError::Setting {
            setting: "transitCidr",
            value: config.transit_cidr.to_string(),
            problem: "it must have room for a /30",
        });
    }
    Ok(())
}

/// Whether the engine forwards the families that these settings name. Asked only where IPv6 is wanted.
pub async fn able<E: Engine>(engine: &E, config: &ClusterConfig) -> Result<(), TenantError> {
    let Some(pools) = config.ipv6 else { return Ok(()) };
    let capabilities = engine.capabilities().await.map_err(TenantError::engine("ask what the engine can do"))?;
    if capabilities.ipv6 {
        return Ok(());
    }
    Err(TenantError::Setting {
        setting: "podCidr6",
        value: pools.pod_cidr.to_string(),
        problem: "the engine of this cluster forwards no IPv6",
    })
}

/// Whether this node's configuration agrees with the cluster's record.
pub fn agree(config: &ClusterConfig, engine: &str, cluster: &ClusterRecord) -> Result<(), TenantError> {
    same_engine(engine, &cluster.engine)?;
    let settings = [
        ("cluster.addressing", addressing(config.addressing).to_owned(), addressing(cluster.addressing).to_owned()),
        ("cluster.podCidr", bare(config.pod_cidr).to_string(), cluster.pod_cidr.to_string()),
        ("cluster.subnetPrefix", config.subnet_prefix.to_string(), cluster.subnet_prefix.to_string()),
        ("cluster.transitCidr", bare(config.transit_cidr).to_string(), cluster.transit_cidr.to_string()),
        ("cluster.ipFamilies", families(config.ipv4, config.ipv6), families(cluster.ipv4, cluster.ipv6)),
        ("cluster.podCidr6", shown6(config.ipv6, |it| it.pod_cidr), shown6(cluster.ipv6, |it| it.pod_cidr)),
        (
            "cluster.subnetPrefix6",
            shown6(config.ipv6, |it| it.subnet_prefix),
            shown6(cluster.ipv6, |it| it.subnet_prefix),
        ),
        ("cluster.transitCidr6", shown6(config.ipv6, |it| it.transit_cidr), shown6(cluster.ipv6, |it| it.transit_cidr)),
        ("cluster.nodeSideCidr", bare(config.node_side_cidr).to_string(), cluster.node_side_cidr.to_string()),
        ("cluster.serviceCidr", service(config.service_cidr.map(bare)), service(cluster.service_cidr)),
        (
            "cluster.providerRouter",
            shown(config.provider_router.or(Some(cluster.provider_router))),
            shown(Some(cluster.provider_router)),
        ),
    ];
    match settings.into_iter().find(|(_, file, cluster)| file != cluster) {
        Some((setting, file, cluster)) => Err(TenantError::Disagrees { setting, file, cluster }),
        None => Ok(()),
    }
}

/// Whether this node is configured for the engine that made what a record describes. Another engine finds none of it, and
/// would take it for deleted.
pub fn same_engine(configured: &str, recorded: &str) -> Result<(), TenantError> {
    if configured == recorded {
        return Ok(());
    }
    Err(TenantError::Disagrees { setting: "engine", file: configured.to_owned(), cluster: recorded.to_owned() })
}

fn families(ipv4: bool, ipv6: Option<Ipv6Pools>) -> String {
    let families: Vec<_> = ipv4.then_some("IPv4").into_iter().chain(ipv6.map(|_| "IPv6")).collect();
    families.join(" and ")
}

/// A setting of IPv6 as text.
fn shown6<T: ToString>(pools: Option<Ipv6Pools>, of: impl Fn(Ipv6Pools) -> T) -> String {
    pools.map_or_else(|| "absent".to_owned(), |pools| of(pools).to_string())
}

fn service(cidr: Option<Ipv4Network>) -> String {
    cidr.map_or_else(|| "absent".to_owned(), |cidr| cidr.to_string())
}

fn addressing(addressing: Addressing) -> &'static str {
    match addressing {
        Addressing::Unique => "unique",
        Addressing::Overlapping => "overlapping",
    }
}

/// Without host bits.
fn bare(network: Ipv4Network) -> Ipv4Network {
    Ipv4Network::new(network.network(), network.prefix()).expect("the prefix length of a network")
}

#[cfg(test)]
mod tests {
    use atoll_model::error::{Class, Classify as _};
    use atoll_testkit::fixture::cluster_config as config;

    use super::*;

    #[test]
    fn a_record_agrees_with_the_file_it_was_made_from() {
        let config = ClusterConfig { pod_cidr: "10.128.0.7/9".parse().expect("valid"), ..config() };
        assert!(possible(&config).is_ok());
        let record = record(&config, "midonet", Uuid::from_u128(1));
        assert_eq!(record.pod_cidr.to_string(), "10.128.0.0/9", "host bits mean nothing");
        assert!(agree(&config, "midonet", &record).is_ok());
    }

    type Edit = fn(&mut ClusterConfig);

    #[test]
    fn every_difference_names_the_setting_and_both_values() {
        let record = record(&config(), "midonet", Uuid::from_u128(1));
        let changes: [(Edit, &str); 7] = [
            (
                |c| c.addressing = Addressing::Overlapping,
                "`cluster.addressing` is overlapping in this node's configuration, but unique in the cluster",
            ),
            (
                |c| c.pod_cidr = "10.0.0.0/9".parse().expect("valid"),
                "`cluster.podCidr` is 10.0.0.0/9 in this node's configuration, but 10.128.0.0/9 in the cluster",
            ),
            (
                |c| c.subnet_prefix = 25,
                "`cluster.subnetPrefix` is 25 in this node's configuration, but 24 in the cluster",
            ),
            (
                |c| c.transit_cidr = "100.65.0.0/16".parse().expect("valid"),
                "`cluster.transitCidr` is 100.65.0.0/16 in this node's configuration, but 100.64.0.0/16 in the cluster",
            ),
            (
                |c| c.node_side_cidr = "169.254.0.0/17".parse().expect("valid"),
                "`cluster.nodeSideCidr` is 169.254.0.0/17 in this node's configuration, but 169.254.128.0/17 in the cluster",
            ),
            (
                |c| c.service_cidr = Some("10.96.0.0/12".parse().expect("valid")),
                "`cluster.serviceCidr` is 10.96.0.0/12 in this node's configuration, but absent in the cluster",
            ),
            (
                |c| c.provider_router = Some(Uuid::from_u128(2)),
                "`cluster.providerRouter` is 00000000-0000-0000-0000-000000000002 in this node's configuration, but 00000000-0000-0000-0000-000000000001 in the cluster",
            ),
        ];
        for (change, message) in changes {
            let mut config = config();
            change(&mut config);
            assert_eq!(agree(&config, "midonet", &record).expect_err("differs").to_string(), message);
        }
    }

    /// The wrong engine is named before any other difference, and in either direction.
    #[test]
    fn another_engine_is_refused_with_both_names() {
        let other = ClusterConfig { subnet_prefix: 25, ..config() };
        for (configured, recorded) in [("midonet", "ovn"), ("ovn", "midonet")] {
            let record = record(&config(), recorded, Uuid::from_u128(1));
            for config in [config(), other.clone()] {
                let error = agree(&config, configured, &record).expect_err("another engine");
                assert_eq!(
                    error.to_string(),
                    format!("`engine` is {configured} in this node's configuration, but {recorded} in the cluster")
                );
                assert_eq!(error.class(), Class::Config);
                assert_eq!(
                    error.hint(),
                    Some(format!(
                        "set `engine` to {recorded} on this node: the cluster's settings are fixed by its first node"
                    ))
                );
            }
            agree(&config(), recorded, &record).expect("the same engine");
        }
    }

    #[test]
    fn pools_that_overlap_are_refused_in_any_order() {
        for (pod, transit, node) in [
            ("10.0.0.0/8", "10.64.0.0/16", "169.254.0.0/17"),
            ("100.64.1.0/24", "100.64.0.0/16", "169.254.0.0/17"),
            ("10.0.0.0/8", "100.64.0.0/10", "100.64.0.0/16"),
            ("10.0.0.0/8", "100.64.0.0/10", "10.1.0.0/16"),
            ("0.0.0.0/0", "100.64.0.0/10", "169.254.0.0/17"),
        ] {
            let config = ClusterConfig {
                pod_cidr: pod.parse().expect("valid"),
                transit_cidr: transit.parse().expect("valid"),
                node_side_cidr: node.parse().expect("valid"),
                service_cidr: None,
                ..config()
            };
            assert!(matches!(possible(&config), Err(TenantError::Overlap { .. })), "{pod} {transit} {node}");
        }
    }

    #[test]
    fn services_that_overlap_any_pool_are_refused() {
        for services in ["10.200.0.0/16", "100.64.0.0/24", "169.254.0.0/16"] {
            let config = ClusterConfig { service_cidr: Some(services.parse().expect("valid")), ..config() };
            assert!(matches!(possible(&config), Err(TenantError::Overlap { second: "serviceCidr", .. })), "{services}");
        }
        let beside = ClusterConfig { service_cidr: Some("10.96.0.0/12".parse().expect("valid")), ..config() };
        assert!(possible(&beside).is_ok());
        assert!(agree(&beside, "midonet", &record(&beside, "midonet", Uuid::from_u128(1))).is_ok());
    }

    #[test]
    fn sizes_that_leave_no_room_are_refused() {
        for prefix in [8, 31, 32] {
            assert!(matches!(
                possible(&ClusterConfig { subnet_prefix: prefix, ..config() }),
                Err(TenantError::Setting { .. })
            ));
        }
        let narrow = ClusterConfig { transit_cidr: "100.64.0.0/31".parse().expect("valid"), ..config() };
        assert!(matches!(possible(&narrow), Err(TenantError::Setting { setting: "transitCidr", .. })));
    }
}
