//! The kernel is made to match, and only where it does not.

use std::path::Path;

use atoll_dataplane::Counters;
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use atoll_testkit::steps::Steps;

fn apply(topology: &mut Topology, objects: impl IntoIterator<Item = Object>) {
    for change in put(objects) {
        topology.apply(change);
    }
}

/// The topology after `tenants` tenants with `pods` pods each.
fn topology(tenants: u128, pods: u8) -> Topology {
    let mut topology = provider();
    for tenant in (1..=tenants).map(TenantObjects) {
        let objects = tenant.objects("10.9.0.0/24").into_iter().chain((1..=pods).map(|n| tenant.pod_port(n)));
        apply(&mut topology, objects);
    }
    topology
}

/// The filter of a namespace, without the values of its counters.
fn filter(netns: &Path) -> Vec<String> {
    let text = at_first_step(&inside(netns, "nft", &["-s", "-y", "list", "ruleset"]));
    let mut lines: Vec<_> = text.lines().filter(|line| !line.contains("\" counter")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_restart_changes_nothing_and_interrupts_nothing() {
    let mut lab = Lab::start(topology(2, 0));
    let red = TenantObjects(1);
    let (a, _b) = (lab.pod(red, 1), lab.pod(red, 2));
    assert!(lab.plane().report().changes > 0);
    let before = filter(&lab.namespace(red));
    let mut same = topology(2, 0);
    apply(&mut same, [red.pod_port(1), red.pod_port(2)]);
    lab.active.lock().unwrap().clear();
    lab.restart(same.clone());
    let report = lab.plane().report();
    assert_eq!((report.changes, report.errors.len()), (0, 0), "{report:#?}");
    assert_eq!(filter(&lab.namespace(red)), before);
    lab.wait_active(red.pod(1), true);
    assert!(pings(&a, "10.9.0.102") && pings(&a, "203.0.113.1"));
}

#[test]
fn many_pods_that_come_at_once_become_active() {
    let lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let netns = lab.namespace(red);
    for n in 1..=100 {
        let (name, peer) = (interface(red, n), format!("peer-{n}"));
        inside(&netns, "ip", &["link", "add", &name, "up", "type", "veth", "peer", "name", &peer]);
        inside(&netns, "ip", &["link", "set", &peer, "up"]);
    }
    lab.submit(put((1..=100).map(|n| red.pod_port(n))));
    for n in 1..=100 {
        lab.wait_active(red.pod(n), true);
    }
}

#[test]
fn a_port_that_was_removed_while_the_plane_was_stopped_is_taken_out() {
    let mut lab = Lab::start(topology(2, 0));
    let red = TenantObjects(1);
    let (a, _b) = (lab.pod(red, 1), lab.pod(red, 2));
    let mut less = topology(1, 0);
    apply(&mut less, [red.pod_port(2)]);
    lab.restart(less);
    assert!(!pings(&a, "10.9.0.102"));
    assert!(!inside(&lab.namespace(red), "ip", &["-o", "link", "show", &interface(red, 1)]).contains("master"));
    assert!(!lab.namespace(TenantObjects(2)).exists());
}

/// Everything that the kernel shows of a namespace, counters, timers and numbers of links aside.
fn kernel_dump(netns: &Path) -> Vec<String> {
    let script = "ip -d -o link; bridge -d link | paste - -; bridge fdb | grep -v -e 33:33: -e 01:00:5e; ip -o addr; \
                  ip route show table all; ip rule; ip neigh show nud permanent; ip neigh show proxy; tc qdisc; \
                  cd /proc/sys/net; grep -rs '' bridge ipv4/conf ipv4/ip_[fd]* ipv4/fwmark* ipv4/icmp_* ipv6/conf/*/disable_*";
    let shown = inside(netns, "sh", &["-c", script]);
    let timer =
        |word: &str| word.ends_with("_timer") || ["refcnt", "port_id", "port_no", "designated_port"].contains(&word);
    let mut lines: Vec<_> = shown
        .lines()
        .map(|line| {
            let mut words: Vec<_> = line.split_whitespace().collect();
            while let Some(at) = words.iter().position(|word| timer(word)) {
                words.drain(at..at + 2);
            }
            let numbered = words.first().is_some_and(|word| word.trim_end_matches(':').parse::<u32>().is_ok());
            let words = words.into_iter().skip(usize::from(numbered));
            words.map(|word| word.split('@').next().unwrap_or(word).trim_end_matches(':')).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines.extend(filter(netns));
    lines
}

/// Damage, by a shell, to what is at a place in a router namespace with two pods; `BR`, `RL`, `ATR` and `POD` stand for interfaces,
/// `ELSEWHERE` for another namespace.
const DAMAGES: &[&str] = &[
    // Links.
    "ip link set BR down",
    "ip link set RL down",
    "ip link set POD down",
    "ip link set POD nomaster",
    "ip link del BR",
    "ip link del RL",
    "for l in BR RL ATR; do ip link set $l address 02:00:00:00:00:01; done",
    "for l in BR RL ATR; do ip link set $l arp off; done",
    "for l in RL ATR; do ip link set $l mtu 900; done",
    "for l in BR RL ATR; do ip link set $l group default; done",
    "ip link set RL down; ip link set RL name moved0",
    "ip link set BR down; ip link set BR name moved0",
    "ip link set RL netns ELSEWHERE",
    "tc qdisc add dev RL root tbf rate 8bit burst 10kb latency 1s; tc qdisc add dev ATR ingress",
    "tc qdisc add dev BR clsact; tc filter add dev BR ingress u32 match u32 0 0 flowid 1:1",
    // Options of the bridge.
    "ip link set BR type bridge stp_state 1",
    "for o in 'ageing_time 100' 'mcast_snooping 1' 'mcast_querier 1' 'no_linklocal_learn 0' 'group_fwd_mask 8' \
     'nf_call_iptables 1' 'nf_call_ip6tables 1' 'nf_call_arptables 1'; do ip link set BR type bridge $o; done",
    // Flags of its ports.
    "for f in learning mcast_to_unicast isolated hairpin guard root_block neigh_suppress locked; do \
     bridge link set dev POD $f on; done",
    "for f in flood mcast_flood bcast_flood; do bridge link set dev POD $f off; done",
    "ip link set POD type bridge_slave proxy_arp on group_fwd_mask 8",
    "bridge link set dev POD state 0",
    // What it knows.
    "bridge fdb del 02:00:00:00:09:01 dev POD master",
    "bridge fdb replace 02:00:00:00:09:01 dev POD master static",
    "bridge fdb replace 02:00:00:00:09:02 dev POD master static",
    "bridge fdb replace 02:00:00:00:09:02 dev POD master permanent",
    "bridge fdb del 02:00:00:00:09:02 dev OTHER master; bridge fdb add 02:00:00:00:09:02 dev POD master dynamic",
    "bridge fdb add 02:00:00:00:09:77 dev POD master static; bridge fdb add 02:00:00:00:09:78 dev POD master permanent; \
     bridge fdb add 02:00:00:00:09:79 dev POD master dynamic; bridge fdb add 02:00:00:00:09:80 dev BR self permanent",
    "bridge fdb del $(ip -o link show BR | grep -o 'ether [^ ]*' | cut -d' ' -f2) dev BR self",
    // Addresses.
    "ip addr flush dev BR; ip addr add 198.51.100.1/24 dev RL",
    "ip route del local 10.9.0.1 table local",
    // Routes.
    "ip route flush proto 201; ip route flush table 901",
    "ip route add unreachable 203.0.113.1 proto 201; ip route add throw 203.0.113.2 proto 201; \
     ip route add blackhole 203.0.113.3 proto 201; ip route add 203.0.113.4 proto 201 nexthop dev RL nexthop dev BR; \
     ip route append 10.9.0.0/24 dev BR scope link proto 201 mtu 600; ip route add 10.9.0.0/24 tos 8 dev RL proto 201",
    // Rules.
    "ip rule flush",
    "ip rule del pref 0; ip rule del pref 100",
    "ip rule del pref 101; ip rule add pref 50 to 203.0.113.0/24 blackhole protocol 201; \
     ip rule add pref 51 not from 10.9.0.101 lookup 999 protocol 201; \
     ip rule add pref 52 from 10.9.0.101 lookup 999 protocol 201",
    // Neighbours.
    "ip neigh flush dev BR nud permanent; ip neigh flush dev RL nud permanent",
    "ip neigh replace 10.9.0.101 lladdr 02:00:00:00:00:01 dev BR nud permanent; \
     ip neigh replace 10.9.0.102 lladdr 02:00:00:00:00:01 dev BR nud reachable; \
     ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:01 dev BR nud permanent; ip neigh add proxy 10.9.0.102 dev BR",
    // PlaneSettings.
    "sysctl -qw net.ipv4.ip_forward=0",
    "sysctl -qw net.ipv4.fwmark_reflect=0 net.ipv4.icmp_echo_ignore_all=1 net.ipv4.icmp_ratemask=6168 \
     net.ipv4.icmp_errors_use_inbound_ifaddr=1 net.ipv4.ip_default_ttl=1 net.ipv6.conf.BR.disable_ipv6=0",
    "for s in call-iptables call-ip6tables call-arptables filter-vlan-tagged filter-pppoe-tagged pass-vlan-input-dev; do \
     sysctl -qw net.bridge.bridge-nf-$s=1; done; sysctl -qw net.ipv6.conf.all.disable_ipv6=0",
    "for i in all default BR RL; do for s in rp_filter proxy_arp accept_local route_localnet send_redirects \
     accept_redirects arp_filter arp_accept accept_source_route bc_forwarding src_valid_mark proxy_arp_pvlan \
     ignore_routes_with_linkdown drop_gratuitous_arp drop_unicast_in_l2_multicast; do \
     sysctl -qw net.ipv4.conf.$i.$s=1; done; done",
    "for i in all default BR RL; do sysctl -qw net.ipv4.conf.$i.arp_ignore=8 net.ipv4.conf.$i.arp_announce=0; done; \
     sysctl -qw net.ipv4.conf.BR.forwarding=0",
];

/// The plane is stopped during each damage. It compares everything when it starts, and every few seconds.
#[test]
fn drift_of_every_kind_is_repaired() {
    let mut lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let namespace = lab.namespace(red);
    let mut same = topology(1, 0);
    apply(&mut same, [red.pod_port(1), red.pod_port(2)]);
    let links = inside(&namespace, "ip", &["-o", "link"]);
    let name = |prefix: &str| {
        let mut names = links.split_whitespace().filter_map(|word| word.split(['@', ':']).next());
        names.find(|name| name.starts_with(prefix) && name.len() > 12).unwrap().to_owned()
    };
    let names = [
        ("BR", name("br")),
        ("ATR", name("atr")),
        ("RL", name("rl")),
        ("POD", interface(red, 1)),
        ("OTHER", interface(red, 2)),
        ("ELSEWHERE", b.display().to_string()),
    ];
    assert!(pings(&a, "10.9.0.102") && pings(&a, "203.0.113.1"));
    lab.restart(same.clone());
    let right = kernel_dump(&namespace);
    for damage in DAMAGES {
        let script = names.iter().fold((*damage).to_owned(), |script, (word, name)| script.replace(word, name));
        lab.plane.take().unwrap().stop();
        inside(&namespace, "sh", &["-ec", &script]);
        assert_ne!(kernel_dump(&namespace), right, "{damage}: it is damage");
        lab.restart(same.clone());
        assert!(lab.plane().report().changes > 0 || damage.contains("POD"), "{damage}");
        let state = || {
            let now = kernel_dump(&namespace);
            let (more, less): (Vec<_>, Vec<_>) = (
                now.iter().filter(|line| !right.contains(line)).collect(),
                right.iter().filter(|line| !now.contains(line)).collect(),
            );
            format!("{damage}: {more:#?} instead of {less:#?}; {:#?}", lab.plane().report())
        };
        // Some end of a link may be made by the other end's namespace, after an event of the kernel.
        wait(state, || kernel_dump(&namespace) == right);
        lab.restart(same.clone());
        assert_eq!(lab.plane().report().changes, 0, "{damage}");
    }
    for to in ["10.9.0.102", "203.0.113.1", "10.9.0.1"] {
        wait(|| format!("{to}: {:#?}", lab.plane().report()), || pings(&a, to));
    }
}

/// Objects without Atoll's tag are foreign, also inside Atoll's namespaces: they are removed from bridges and not
/// changed otherwise.
#[test]
fn foreign_objects_in_a_router_namespace_stay() {
    let mut lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let (a, _b) = (lab.pod(red, 1), lab.pod(red, 2));
    let namespace = lab.namespace(red);
    let mut same = topology(1, 0);
    apply(&mut same, [red.pod_port(1), red.pod_port(2)]);
    let bridge = red.bridge_device();
    let script = [
        "ip link add foreign0 type veth peer name foreign1",
        "ip link set foreign0 up",
        &format!("ip link set foreign1 master {bridge} up"),
        "ip addr add 198.51.100.1/24 dev foreign0",
        "ip route add 192.0.2.0/24 via 198.51.100.9 onlink dev foreign0",
        // The same as one of ours, but for the mark.
        "ip route append 10.9.0.0/24 dev foreign0 scope link",
        "ip rule add pref 50 from 198.51.100.0/24 lookup 300",
        "ip neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 dev foreign0 nud permanent",
        "ip neigh add proxy 198.51.100.8 dev foreign0",
        "tc qdisc add dev foreign0 root tbf rate 1mbit burst 10kb latency 1s",
        "tc qdisc add dev at1p1 clsact",
        "nft add table ip foreign",
        "nft add table inet foreign",
        "sysctl -qw net.ipv4.conf.foreign0.rp_filter=1",
    ];
    lab.plane.take().unwrap().stop();
    inside(&namespace, "sh", &["-ec", &script.join("; ")]);
    let theirs = |lines: Vec<String>| -> Vec<String> {
        let words = ["foreign0", "foreign {", "192.0.2.0", "lookup 300", "clsact"];
        let theirs = |line: &String| !line.starts_with("foreign1") && words.iter().any(|word| line.contains(word));
        lines.into_iter().filter(theirs).collect()
    };
    let before = theirs(kernel_dump(&namespace));
    assert!(before.len() > 12, "{before:#?}");
    lab.restart(same.clone());
    assert_eq!(theirs(kernel_dump(&namespace)), before);
    let stray = inside(&namespace, "ip", &["-o", "link", "show", "foreign1"]);
    assert!(!stray.contains("master"), "{stray}");
    assert!(pings(&a, "10.9.0.102") && pings(&a, "203.0.113.1"));
    lab.restart(same);
    assert_eq!(lab.plane().report().changes, 0);
    assert_eq!(theirs(kernel_dump(&namespace)), before);
}

/// Changes of a filter while the data plane was not running cause no event: its contents are compared.
#[test]
fn a_filter_that_was_changed_while_the_plane_was_stopped_is_loaded_again() {
    let mut lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let _pods = (lab.pod(red, 1), lab.pod(red, 2));
    let mut same = topology(1, 0);
    apply(&mut same, [red.pod_port(1), red.pod_port(2)]);
    let node = Path::new("/proc/thread-self/ns/net");
    let namespace = lab.namespace(red);
    let (right, right_guard) = (filter(&namespace), filter(node));
    let of_domain = [
        "flush chain bridge atoll prerouting",
        "insert rule bridge atoll prerouting accept",
        "add rule bridge atoll prerouting drop",
        "add chain bridge atoll prerouting { policy drop; }",
        "add table bridge atoll { flags dormant; }",
        "flush set bridge atoll gateway_macs",
        "add element bridge atoll gateway_addresses { 10.9.0.102 }",
        "add element bridge atoll links { at1p1 }",
        "add element bridge atoll open { at1p1 }",
        "delete table bridge atoll",
        "insert rule ip atoll input accept",
        "flush chain ip atoll unknown_interfaces",
        "flush chain ip atoll outbound",
        "delete chain ip atoll outbound",
        "add chain ip atoll input { policy drop; }",
        "add chain ip atoll more { type filter hook forward priority -300; policy drop; }",
        "add table ip atoll { flags dormant; }",
        "flush chain ip atoll sources",
        "flush map ip atoll host_to_pod",
        "add element ip atoll known { br000000000000 . 10.9.0.77 }",
    ];
    let guard = "ip atoll_node";
    let of_node = [
        format!("flush chain {guard} passing"),
        format!("add rule {guard} arriving drop"),
        format!("flush chain {guard} arriving; add rule {guard} arriving accept; add rule {guard} arriving accept"),
        format!("add table {guard} {{ flags dormant; }}"),
        format!("add chain {guard} passing {{ policy drop; }}"),
        format!("delete table {guard}"),
    ];
    let of_domain = of_domain.map(|damage| (namespace.as_path(), damage.to_owned()));
    for (place, damage) in of_domain.into_iter().chain(of_node.map(|damage| (node, damage))) {
        lab.plane.take().unwrap().stop();
        inside(place, "nft", &[&damage]);
        assert!(filter(&namespace) != right || filter(node) != right_guard, "{damage}: it is damage");
        lab.restart(same.clone());
        assert!(lab.plane().report().changes > 0, "{damage}");
        assert_eq!(filter(&namespace), right, "{damage}");
        assert_eq!(filter(node), right_guard, "{damage}");
        lab.restart(same.clone());
        assert_eq!(lab.plane().report().changes, 0, "{damage}");
    }
}

#[test]
fn a_running_plane_mends_what_is_broken_under_it() {
    let lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let (a, _b) = (lab.pod(red, 1), lab.pod(red, 2));
    let namespace = lab.namespace(red);
    for damage in
        ["nft delete table bridge atoll", "ip route flush proto 201", "nft flush set bridge atoll allowed_sources"]
    {
        inside(&namespace, "sh", &["-c", damage]);
        let whole = || {
            // As a source, as an ARP sender, as a destination, and in host-to-pod addressing.
            inside(&namespace, "nft", &["list", "ruleset"]).matches("10.9.0.101").count() == 4
                && inside(&namespace, "ip", &["route"]).contains("default")
        };
        wait(|| damage.to_owned(), whole);
        // The last object of the list is not the last one that is repaired.
        reaches(&a, "10.9.0.102");
        reaches(&a, "203.0.113.1");
    }
}

#[test]
fn a_half_made_namespace_is_finished() {
    let mut lab = Lab::start(provider());
    let red = TenantObjects(1);
    lab.plane.take().unwrap().stop();
    // What a crash between creating the file and mounting the namespace on it leaves.
    std::fs::File::create(lab.namespace(red)).unwrap();
    lab.restart(topology(1, 0));
    let a = lab.pod(red, 1);
    assert!(pings(&a, "203.0.113.1"));
}

/// The namespace is found by its name again, and its packets were not affected.
#[test]
fn a_namespace_that_was_unpinned_or_covered_by_another_is_where_it_was() {
    let mut lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let (a, _b) = (lab.pod(red, 1), lab.pod(red, 2));
    let path = lab.namespace(red);
    let shown = path.display().to_string();
    let is_there = || attempt(&path, "ip", &["link", "show", &red.bridge_device()]).status.success();
    let damages = [
        format!("umount -l {shown}"),
        format!("umount -l {shown}; rm {shown}"),
        format!("umount -l {shown}; unshare --net={shown} true"),
        format!("unshare --net={shown} true"),
    ];
    for damage in &damages {
        assert!(is_there(), "{damage}");
        run("sh", &["-ec", damage]);
        assert!(!is_there(), "{damage}: it is damage");
        assert!(pings(&a, "10.9.0.102") && pings(&a, "203.0.113.1"), "{damage}");
        wait(|| format!("{damage}: {:#?}", lab.plane().report()), is_there);
        lab.pod(red, 3);
        lab.submit(vec![TopologyChange::Remove(red.pod(3))]);
        inside(&path, "ip", &["link", "del", &interface(red, 3)]);
        run("umount", &[&lab.directory.path().join("pods").join(interface(red, 3)).display().to_string()]);
    }
    let mut same = topology(1, 0);
    apply(&mut same, [red.pod_port(1), red.pod_port(2)]);
    lab.restart(same.clone());
    assert_eq!(lab.plane().report().changes, 0);
    // Without the data plane no process holds the namespace: it is created again, and its pods are reported as not
    // connected.
    lab.plane.take().unwrap().stop();
    run("sh", &["-c", &format!("while umount -l {shown} 2>/dev/null; do :; done")]);
    lab.active.lock().unwrap().clear();
    lab.restart(same);
    assert!(is_there() && !lab.is_active(red.pod(1)));
    let c = lab.pod(red, 3);
    assert!(pings(&c, "203.0.113.1"));
}

/// Only an empty file or a namespace under an id is ours.
#[test]
fn foreign_files_in_the_directory_stay() {
    let mut lab = Lab::start(topology(1, 0));
    lab.plane.take().unwrap().stop();
    let planes = lab.planes();
    let foreign = planes.join("foreign-pods");
    std::fs::File::create(&foreign).unwrap();
    run("unshare", &[&format!("--net={}", foreign.display()), "true"]);
    let [link, file, directory] = [7, 8, 9].map(|n| planes.join(TenantObjects(n).router().to_string()));
    std::os::unix::fs::symlink(&foreign, &link).unwrap();
    std::fs::write(&file, "foreign").unwrap();
    std::fs::create_dir(&directory).unwrap();
    let whole = || {
        assert!(inside(&foreign, "ip", &["-o", "link"]).lines().count() == 1);
        assert_eq!(std::fs::read_link(&link).unwrap(), foreign);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "foreign");
        assert!(directory.is_dir());
    };
    // A look at a topology without them, one at a topology that wants their names, and a purge.
    lab.restart(topology(1, 0));
    whole();
    let all = topology(9, 0);
    lab.restart(all);
    let report = lab.plane().report();
    assert!(
        [7, 8, 9].map(|n| TenantObjects(n).router()).iter().all(|id| report.errors.contains_key(id)),
        "{report:#?}"
    );
    whole();
    lab.plane.take().unwrap().stop();
    atoll_dataplane::purge(&planes).unwrap();
    whole();
    assert_eq!(std::fs::read_dir(&planes).unwrap().count(), 4);
    run("umount", &[&foreign.display().to_string()]);
}

#[test]
fn purge_leaves_nothing() {
    let mut lab = Lab::start(topology(2, 0));
    lab.pod(TenantObjects(1), 1);
    lab.plane.take().unwrap().stop();
    let mounted = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(lab.planes().to_str().unwrap());
    assert!(mounted());
    atoll_dataplane::purge(&lab.planes()).unwrap();
    assert!(!lab.planes().exists() && !mounted());
    assert_eq!(run("ip", &["-o", "link"]).lines().count(), 1, "only lo is left in our own namespace");
}

#[test]
fn a_removed_tenant_takes_its_namespace_along() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    lab.pod(red, 1);
    let ids = topology(1, 0);
    let mut removals: Vec<_> = vec![red.pod(1), red.bridge(), red.router(), red.uplink(), red.provider_port()];
    removals.extend(ids.routes.keys().filter(|id| id.as_u128() > 0x1000));
    lab.submit(removals.into_iter().map(TopologyChange::Remove).collect());
    assert!(!lab.namespace(red).exists());
    let provider = inside(&lab.planes().join(PROVIDER.to_string()), "ip", &["-o", "link"]);
    assert!(!provider.contains("rl"), "{provider}");
    assert_eq!(lab.plane().report().errors.len(), 0, "{:#?}", lab.plane().report());
}

/// A DEL deletes link and port at the same time, so that the link may go between two looks at it; the next pod comes
/// before the dust has programmed, sometimes with the address of the one that left.
#[test]
fn ports_come_and_go_while_their_links_do() {
    let lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    for round in 0..40 {
        let (leaves, comes) = (1 + round % 2, 2 - round % 2);
        let pod = lab.pod(red, leaves);
        let namespace = lab.namespace(red);
        let link = interface(red, leaves);
        // Off by a little more each time: the two meet at every point of each other.
        let deleted = std::thread::spawn(move || inside(&namespace, "ip", &["link", "del", &link]));
        std::thread::sleep(std::time::Duration::from_micros(250 * u64::from(round)));
        lab.submit(vec![TopologyChange::Remove(red.pod(leaves))]);
        let next = lab.pod(red, comes);
        deleted.join().unwrap();
        wait(|| format!("round {round}: {:#?}", lab.plane().report()), || pings(&next, "10.9.0.1"));
        lab.submit(vec![TopologyChange::Remove(red.pod(comes))]);
        inside(&lab.namespace(red), "ip", &["link", "del", &interface(red, comes)]);
        for pod in [pod, next] {
            run("umount", &[&pod.display().to_string()]);
        }
    }
    wait(|| format!("{:#?}", lab.plane().report()), || lab.plane().report().errors.is_empty());
}

#[test]
fn an_uplink_of_the_machine_is_used_and_given_back() {
    let mut lab = Lab::start(Topology::default());
    let world = lab.directory.path().join("pods/world");
    std::fs::File::create(&world).unwrap();
    run("unshare", &[&format!("--net={}", world.display()), "true"]);
    let path = world.display().to_string();
    run("ip", &["link", "add", "uplink0", "type", "veth", "peer", "name", "wan", "netns", &path]);
    inside(&world, "ip", &["addr", "add", "203.0.113.1/24", "dev", "wan"]);
    inside(&world, "ip", &["link", "set", "wan", "up"]);
    inside(&world, "ip", &["route", "add", "100.64.0.0/16", "via", "203.0.113.2"]);

    // Not while the machine uses it.
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "uplink0"]);
    lab.restart(topology(1, 0));
    let error = lab.plane().report().errors.remove(&PROVIDER).unwrap_or_default();
    assert!(error.contains("uplink0 cannot be taken"), "{error}");
    // One request: the plane takes the interface the moment it is free, and a flush would look at it once more.
    run("ip", &["addr", "del", "192.0.2.1/24", "dev", "uplink0"]);
    lab.wait_active(UPLINK, true);
    assert!(!lab.external_network().exists(), "there is a real external network");
    let a = lab.pod(TenantObjects(1), 1);
    wait(|| "the real external host answers".to_owned(), || pings(&a, "203.0.113.1"));

    lab.plane.take().unwrap().stop();
    atoll_dataplane::purge(&lab.planes()).unwrap();
    assert!(run("ip", &["-o", "link", "show", "uplink0"]).contains("uplink0"));
}

/// A controller that lost its memory knows the provider router, or a part of the tenants.
#[test]
fn an_empty_or_partial_view_leaves_running_tenants_alone() {
    let mut lab = Lab::start(topology(3, 0));
    let tenants = [1, 2, 3].map(TenantObjects);
    let pods: Vec<_> = tenants.iter().map(|tenant| (lab.pod(*tenant, 1), lab.pod(*tenant, 2))).collect();
    let mut whole = topology(3, 0);
    for tenant in tenants {
        apply(&mut whole, [tenant.pod_port(1), tenant.pod_port(2)]);
    }
    let sides = lab.plane().report().host_to_pod;
    let works = |lab: &Lab, (a, _): &(std::path::PathBuf, std::path::PathBuf), tenant: TenantObjects| {
        assert!(pings(a, "10.9.0.102") && pings(a, "203.0.113.1") && pings(a, "10.9.0.1"), "{tenant:?}");
        let side = sides[&tenant.pod(1)].address;
        assert!(pings(std::path::Path::new("/proc/thread-self/ns/net"), side), "{:#?}", lab.plane().report());
    };
    let part = {
        let mut part = topology(1, 0);
        apply(&mut part, [TenantObjects(1).pod_port(1), TenantObjects(1).pod_port(2)]);
        part
    };
    for (view, known) in [(Topology::default(), 0), (provider(), 0), (part, 1)] {
        lab.restart(view);
        let report = lab.plane().report();
        assert_eq!((report.changes, report.errors.len()), (0, 0), "{known}: {report:#?}");
        let preserved: Vec<_> = tenants[known..].iter().map(|tenant| tenant.router()).collect();
        assert!(preserved.iter().all(|id| report.preserved.contains(id)), "{known}: {report:#?}");
        for (pods, tenant) in pods.iter().zip(tenants) {
            works(&lab, pods, tenant);
        }
    }
    // Its memory is back.
    lab.restart(whole.clone());
    let report = lab.plane().report();
    assert_eq!((report.changes, report.preserved.len()), (0, 0), "{report:#?}");
    // An unused namespace is collected. With a foreign interface inside it is not.
    run("umount", &[&pods[2].0.display().to_string()]);
    run("umount", &[&pods[2].1.display().to_string()]);
    wait(
        || "the pods of the third are gone".to_owned(),
        || !inside(&lab.namespace(tenants[2]), "ip", &["-o", "link"]).contains("at3p"),
    );
    let mut less = topology(1, 0);
    apply(&mut less, [TenantObjects(1).pod_port(1), TenantObjects(1).pod_port(2)]);
    let second =
        TenantObjects(2).objects("10.9.0.0/24").into_iter().chain([1, 2].map(|n| TenantObjects(2).pod_port(n)));
    apply(&mut less, second);
    lab.restart(less);
    assert!(!lab.namespace(tenants[2]).exists() && lab.namespace(tenants[1]).exists());
}

#[test]
fn a_thread_that_panics_is_reported_and_a_restart_goes_on() {
    let mut lab = Lab::start(topology(1, 0));
    let red = TenantObjects(1);
    let a = lab.pod(red, 1);
    let mut all = topology(1, 0);
    apply(&mut all, [red.pod_port(1)]);
    lab.steps = Some(Steps::panics(0));
    lab.restart(all.clone());
    assert!(lab.plane().report().errors.is_empty(), "nothing was to be done");
    let blue = TenantObjects(2).objects("10.9.0.0/24");
    lab.submit(put(blue.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(lab.plane().ended());
    wait(
        || format!("{:#?}", lab.plane().report()),
        || lab.plane().report().errors.values().any(|error| error.contains("thread has ended")),
    );
    assert_eq!(runtime.block_on(lab.plane().counters()), Counters::default(), "there are no counters any more");
    assert!(pings(&a, "10.9.0.1"), "the kernel goes on");
    lab.steps = None;
    apply(&mut all, blue);
    lab.restart(all);
    assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
    assert!(pings(&a, "10.9.0.1") && lab.namespace(TenantObjects(2)).exists());
    let ended = async { tokio::time::timeout(std::time::Duration::ZERO, lab.plane().ended()).await };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(runtime.block_on(ended).is_err(), "this one has not");
}

#[test]
fn pods_stay_together_when_their_bridge_is_unlinked_linked_or_outlives_its_router() {
    let mut lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pods = [lab.pod(red, 1), lab.pod(red, 2)];
    let objects: Vec<_> = red.objects("10.9.0.0/24").into_iter().chain([red.pod_port(1), red.pod_port(2)]).collect();
    let ends = |linked: bool| {
        let ends = objects.iter().filter_map(|object| match object.clone() {
            Object::Port(id, port) if [red.gateway(), red.bridge_port()].contains(&id) => {
                Some(Object::Port(id, Port { peer: port.peer.filter(|_| linked), ..port }))
            }
            _ => None,
        });
        put(ends)
    };
    let outcome = |lab: &Lab| {
        for n in [1, 2] {
            lab.wait_active(red.pod(n), true);
        }
        assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
        // The first packets may fall into the moment in which a moved interface has no carrier.
        reaches(&pods[0], address(2));
        pings(&pods[0], "203.0.113.1")
    };
    lab.submit(ends(false));
    assert!(!outcome(&lab), "unlinked");
    lab.submit(ends(true));
    wait(|| "linked".to_owned(), || outcome(&lab));
    // It was unlinked while the data plane was not running.
    let mut world = provider();
    for change in put(objects.clone()).into_iter().chain(ends(false)) {
        world.apply(change);
    }
    lab.restart(world);
    assert!(!outcome(&lab), "unlinked before the start");
    lab.submit(ends(true));
    wait(|| "linked".to_owned(), || outcome(&lab));
    let gone = [red.router(), red.gateway(), red.uplink(), red.default_route()];
    lab.submit(gone.map(TopologyChange::Remove).to_vec());
    wait(|| "the namespace of the router is gone".to_owned(), || !lab.namespace(red).exists());
    assert!(!outcome(&lab), "without its router");
}

/// A router's port that has another MAC now: pods and external hosts learn it before packets are lost.
#[test]
fn neighbours_learn_the_new_mac_of_a_routers_port() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (pod, external) = (lab.pod(red, 1), lab.external_network());
    assert!(pings(&pod, "203.0.113.1"));
    let other = |mut port: Port, n: u8| {
        let Device::Router { mac, .. } = &mut port.device else { unreachable!() };
        *mac = Some(atoll_model::attachment::Mac([2, 0, 0, 0, 7, n]));
        port
    };
    let objects = red.objects("10.9.0.0/24");
    let gateway = objects.into_iter().find_map(|object| match object {
        Object::Port(id, port) if id == red.gateway() => Some(port),
        _ => None,
    });
    let uplink = provider().ports[&UPLINK].clone();
    lab.submit(put([Object::Port(red.gateway(), other(gateway.unwrap(), 1)), Object::Port(UPLINK, other(uplink, 2))]));
    for (netns, address, mac) in
        [(&pod, "10.9.0.1", "02:00:00:00:07:01"), (&external, "203.0.113.2", "02:00:00:00:07:02")]
    {
        let known = || inside(netns, "ip", &["neigh", "show", address]);
        // Without a packet of theirs.
        wait(known, || known().contains(mac));
    }
}
