//! Properties of the arithmetic, over the whole of both spaces, and its corners by hand.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNetwork {
    text.parse().expect("a network")
}

fn block(text: &str) -> Block {
    let network: IpNetwork = text.parse().expect("a network");
    Block::new(network.ip(), network.prefix()).expect("a block")
}

fn any_block() -> impl Strategy<Value = Block> {
    let v4 = (any::<u32>(), 0_u8..=32).prop_map(|(a, p)| Block::new(Ipv4Addr::from(a).into(), p));
    let v6 = (any::<u128>(), 0_u8..=128).prop_map(|(a, p)| Block::new(Ipv6Addr::from(a).into(), p));
    prop_oneof![v4, v6].prop_map(|block| block.expect("the prefix is in range"))
}

fn pods_of(text: &str) -> Option<PodRange> {
    let block = block(text);
    PodRange::new(block, block.gateway()?, &[])
}

fn addresses(text: &str) -> Vec<String> {
    let pods = pods_of(text).expect("has room");
    (0..pods.capacity()).map(|at| block(text).family().address(pods.at(at)).to_string()).collect()
}

#[test]
fn small_blocks_by_hand() {
    assert_eq!(addresses("10.0.0.8/29"), ["10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"]);
    assert_eq!(addresses("10.0.0.4/30"), ["10.0.0.6"]);
    assert_eq!(addresses("10.0.0.2/31"), ["10.0.0.3"]);
    assert_eq!(addresses("fd00::/126"), ["fd00::2", "fd00::3"]);
    assert_eq!(addresses("fd00::/127"), ["fd00::1"]);
    assert_eq!(pods_of("10.0.0.1/32"), None);
    assert_eq!(pods_of("fd00::1/128"), None);
    assert_eq!(gateway(net("10.0.0.0/24")), Some([10, 0, 0, 1].into()));
    assert_eq!(gateway(net("10.0.0.0/32")), None);
}

#[test]
fn the_ends_of_the_space() {
    assert_eq!(addresses("255.255.255.252/30"), ["255.255.255.254"]);
    assert_eq!(addresses("0.0.0.0/30"), ["0.0.0.2"]);
    let all = block("0.0.0.0/0");
    assert_eq!(all.span(), Span { first: 0, last: u32::MAX.into() });
    assert_eq!(PodRange::new(all, 1, &[]).map(|pods| pods.capacity()), Some((1 << 32) - 3));
    let all = block("::/0");
    assert_eq!(all.span(), Span { first: 0, last: u128::MAX });
    assert_eq!(all.count(128), Some(u128::MAX), "one less than there are, which a u128 cannot hold");
    assert_eq!(all.nth(0, 0), Some(all));
    assert_eq!(PodRange::new(all, 1, &[]).map(|pods| pods.at(pods.capacity() - 1)), Some(u128::MAX));
    assert_eq!(all.nth(128, 5).map(Block::network).map(|n| n.to_string()), Some("::5/128".to_owned()));
}

#[test]
fn a_gateway_anywhere_is_left_out() {
    let block = block("10.0.0.0/29");
    for gateway in 0..8_u32 {
        let gateway = u128::from(0x0a00_0000 + gateway);
        let pods = PodRange::new(block, gateway, &[]).expect("has room");
        let given: BTreeSet<_> = (0..pods.capacity()).map(|at| pods.at(at)).collect();
        let expected: BTreeSet<_> = (0x0a00_0001..=0x0a00_0006).filter(|number| *number != gateway).collect();
        assert_eq!(given, expected, "gateway {gateway:x}");
    }
}

#[test]
fn what_is_excluded_is_left_out() {
    let block = block("10.0.0.0/28");
    let span =
        |first: u8, last: u8| Span { first: 0x0a00_0000 + u128::from(first), last: 0x0a00_0000 + u128::from(last) };
    let given = |excluded: &[Span]| {
        let pods = PodRange::new(block, 0x0a00_0001, excluded)?;
        Some((0..pods.capacity()).map(|at| pods.at(at) - 0x0a00_0000).collect::<Vec<_>>())
    };
    assert_eq!(given(&[span(4, 6), span(6, 9), span(10, 10), span(2, 2)]), Some(vec![3, 11, 12, 13, 14]));
    assert_eq!(given(&[span(0, 1), span(14, 255)]), Some((2..=13).collect()));
    assert_eq!(given(&[span(2, 14)]), None);
    assert_eq!(given(&[span(0, 255)]), None);
    // Reserved and excluded addresses have no position; positions count only the others.
    let pods = PodRange::new(block, 0x0a00_0001, &[span(4, 6)]).expect("has room");
    assert_eq!(
        (3..=7).map(|n| pods.position(0x0a00_0000 + n)).collect::<Vec<_>>(),
        [Some(1), None, None, None, Some(2)]
    );
    assert_eq!((3..=8).map(|n| pods.before(0x0a00_0000 + n)).collect::<Vec<_>>(), [1, 2, 2, 2, 2, 3]);
}

#[test]
fn transit_links_have_two_sides() {
    let pool = net("100.64.0.0/16");
    let link = subnet(pool, TRANSIT_PREFIX, 3).expect("inside");
    assert_eq!(link, net("100.64.0.12/30"));
    assert_eq!(transit_sides(link), Some(([100, 64, 0, 13].into(), [100, 64, 0, 14].into())));
    assert_eq!(transit_sides(net("10.0.0.0/31")), None);
    assert_eq!(subnet_count(pool, TRANSIT_PREFIX), Some(1 << 14));
    assert_eq!(subnet(pool, TRANSIT_PREFIX, 1 << 14), None);
    assert_eq!(subnet_count(pool, 8), None, "larger than the pool");
    assert_eq!(subnet_count(pool, 33), None, "no prefix of IPv4");
}

proptest! {
    #[test]
    fn a_block_holds_what_its_network_holds(block in any_block()) {
        let network = block.network();
        let Span { first, last } = block.span();
        prop_assert_eq!(network.network(), block.family().address(first));
        prop_assert_eq!(network.broadcast(), block.family().address(last));
    }

    #[test]
    fn parts_tile_a_block(block in any_block(), longer in 0_u8..=128, index in any::<u128>()) {
        let Some(prefix) = block.prefix().checked_add(longer).filter(|p| *p <= block.family().width()) else {
            prop_assert_eq!(block.count(block.prefix().saturating_add(longer)), None);
            return Ok(());
        };
        let count = block.count(prefix).expect("the prefix fits");
        let index = index % count;
        let part = block.nth(prefix, index).expect("inside");
        prop_assert_eq!(part.prefix(), prefix);
        prop_assert_eq!(block.index_of(part), Some(index));
        prop_assert!(block.overlaps(part));
        prop_assert!(block.span().contains(part.span().first) && block.span().contains(part.span().last));
        if let Some(next) = block.nth(prefix, index + 1) {
            prop_assert_eq!(next.span().first, part.span().last + 1, "no gap and no overlap");
            prop_assert!(!next.overlaps(part));
        }
        prop_assert_eq!(block.nth(prefix, 0).map(|b| b.span().first), Some(block.span().first));
    }

    #[test]
    fn positions_and_addresses_are_one_to_one(
        block in any_block(),
        gateway in any::<u128>(),
        position in any::<u128>(),
        other in any::<u128>(),
        quota in proptest::option::of(1_u128..1000),
        excluded in proptest::collection::vec((any::<u128>(), any::<u128>()), 0..5),
    ) {
        let Span { first, last } = block.span();
        let within = |number: u128| first + number % (last - first).saturating_add(1);
        let (gateway, other) = (within(gateway), within(other));
        // Some of them in the block, some around it, some next to each other.
        let excluded: Vec<_> = excluded
            .into_iter()
            .map(|(a, b)| (within(a), if b % 3 == 0 { b } else { within(a).saturating_add(b % 4) }))
            .map(|(a, b)| Span { first: a.min(b), last: a.max(b) })
            .collect();
        let Some(pods) = PodRange::new(block, gateway, &excluded) else { return Ok(()) };
        let pods = quota.map_or(Some(pods.clone()), |most| pods.limited(most)).expect("a quota of at least one");
        let position = position % pods.capacity();
        let address = pods.at(position);
        prop_assert_eq!(pods.position(address), Some(position));
        prop_assert_eq!(pods.before(address), position);
        prop_assert_ne!(address, gateway);
        prop_assert!(excluded.iter().all(|span| !span.contains(address)), "excluded");
        prop_assert!(block.hosts().expect("has hosts").contains(address));
        prop_assert_eq!(pods.position(gateway), None);
        if let Some(at) = pods.position(other) {
            prop_assert_eq!(pods.at(at), other);
        }
        if block.family() == IpFamily::V4 && block.prefix() <= 30 {
            prop_assert!(address != first && address != last, "network or broadcast");
        }
    }

    #[test]
    fn the_free_part_is_free_and_is_found_when_there_is_one(
        taken in proptest::collection::vec((0_u32..300, 24_u8..=30), 0..40),
        prefix in 24_u8..=30,
        seed in any::<u128>(),
    ) {
        // A /24 pool in the middle of the networks that may be taken, so that some of them are not in it.
        let pool = net("10.0.0.0/24");
        let taken: Vec<_> = taken
            .into_iter()
            .map(|(at, prefix)| IpNetwork::new(Ipv4Addr::from(0x09ff_ffc0 + at).into(), prefix).expect("valid"))
            .collect();
        let clear = |part: IpNetwork| taken.iter().all(|t| !Block::from(*t).overlaps(part.into()));
        let count = subnet_count(pool, prefix).expect("fits");
        let any = (0..count).filter_map(|index| subnet(pool, prefix, index)).any(clear);
        match free_part(pool, prefix, &taken, seed) {
            Some(part) => prop_assert!(clear(part) && Block::from(pool).overlaps(part.into()) && part.prefix() == prefix),
            None => prop_assert!(!any),
        }
    }
}
