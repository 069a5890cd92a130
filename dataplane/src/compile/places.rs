//! Where the base chains stand in their hooks.
//!
//! A filter that takes the place of another stands one step behind it ([`STEPS`]), so a frame between the two meets the
//! new one after the old one. The kernel switches the rules of both at one moment, wherever the frame is: the old chain
//! checks it before that moment, the new one after it. In the opposite order neither may.
//!
//! So the places of two chains in one hook are at least [`STEPS`] apart, and none of the kernel's own places lies within
//! these steps: connection tracking at -200 of "prerouting" and "output", what it puts together before that at -400,
//! translation at -100 and, in "postrouting", at 100 (`include/uapi/linux/netfilter_ipv4.h`); bridged packets come to
//! IP's hooks at 0 of "prerouting" and -1 of "forward" (`net/bridge/br_netfilter_hooks.c`).

/// How many steps a base chain has, from its place on.
pub(crate) const STEPS: i32 = 16;

macro_rules! places {
    ($($family:ident $kind:ident $hook:ident { $($name:ident $place:literal)* })*) => {
        $($(pub(super) const $name: i32 = $place;)*)*
        #[cfg(test)]
        const ALL: &[(&str, &str, &str, i32)] =
            &[$($((stringify!($family), stringify!($kind), stringify!($hook), $place),)*)*];
    };
}

places! {
    bridge filter prerouting {
        PORT_SECURITY -400
        EARLY_PORT_IN -360 EARLY_BRIDGE_IN -340 EARLY_ROUTER_OUT -320 EARLY_ROUTER_PORT_OUT -300
        PORT_IN 20 BRIDGE_IN 40
    }
    bridge filter input { OWN_MAC -350 ROUTER_OUT 20 ROUTER_PORT_OUT 40 }
    bridge filter forward { BRIDGE_OUT -60 PORT_OUT -40 }
    bridge filter output { ROUTER_PORT_IN 20 ROUTER_IN 40 ROUTED_OUT 60 ROUTED_PORT_OUT 80 }
    ip filter prerouting {
        PIECES -450 UNINVITED -320
        FLOWS_ARRIVING -198 NODE_ARRIVING -180 DOWN -162 PORTS_INBOUND -144 INBOUND -126
        INBOUND_AFTER -90
    }
    ip nat prerouting { NODE_DESTINATIONS -150 DESTINATIONS -100 }
    ip filter input { REFUSED_INPUT -20 INPUT 0 }
    ip filter forward {
        SERVICES -80 FLOWS_COUNTED -60 REFUSED_FORWARD -40 NODE_PASSING -20 OUTBOUND 0 PORTS_OUTBOUND 20 KNOWN 40
    }
    ip filter output { SAID -190 FLOWS_SAID -170 }
    ip filter postrouting { NODE_LEAVING -20 OUTBOUND_AFTER 120 PORTS_OUTBOUND_AFTER 140 }
    ip nat postrouting { NODE_SOURCES 80 SOURCES 100 }
}

/// What the name of the empty chain that names a text begins with.
pub(crate) const MARKER: &str = "gen_";

/// The text with each base chain `step` steps behind its place, and the step in the name of the marker.
pub(crate) fn at_step(text: &str, step: i32) -> String {
    let placed = |line: &str| {
        let (head, tail) = line.split_once("; ").filter(|_| line.starts_with("type "))?;
        let (head, place) = head.split_once(" priority ")?;
        let place: i32 = place.parse().ok()?;
        Some(format!("{head} priority {}; {tail}", place + step))
    };
    let marked = |line: &str| {
        let generation = line.strip_prefix("chain ")?.strip_prefix(MARKER)?.strip_suffix(" {")?;
        Some(format!("chain {MARKER}{generation}_{step} {{"))
    };
    text.lines().map(|line| placed(line).or_else(|| marked(line)).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// Reads a marker: which text, at which step.
pub(crate) fn step_of(chain: &str) -> Option<(&str, i32)> {
    let (generation, step) = chain.strip_prefix(MARKER)?.split_once('_')?;
    Some((generation, step.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ALL, STEPS, at_step, step_of};

    #[test]
    fn no_two_chains_of_a_hook_and_no_place_of_the_kernel_lie_within_the_steps_of_another() {
        let kernel: &[(&str, &str, &str, i32)] = &[
            ("bridge", "filter", "prerouting", 0),
            ("bridge", "filter", "forward", -1),
            ("ip", "filter", "prerouting", -400),
            ("ip", "filter", "prerouting", -200),
            ("ip", "filter", "prerouting", -100),
            ("ip", "filter", "output", -200),
            ("ip", "filter", "output", -100),
            ("ip", "filter", "postrouting", 100),
        ];
        let mut hooks = BTreeMap::<_, Vec<(i32, bool)>>::new();
        for (places, ours) in [(ALL, true), (kernel, false)] {
            for (family, kind, hook, place) in places {
                hooks.entry((family, kind, hook)).or_default().push((*place, ours));
            }
        }
        for (hook, mut places) in hooks {
            places.sort_unstable();
            for pair in places.windows(2) {
                let ((place, ours), (next, _)) = (pair[0], pair[1]);
                assert!(next - place >= if ours { STEPS } else { 1 }, "{hook:?}: {place} and {next}");
            }
        }
    }

    #[test]
    fn base_chains_step_and_the_marker_says_how_far() {
        let text = "table ip t {\nchain gen_0a {\n}\nchain a {\ntype nat hook prerouting priority -150; policy accept;\naccept\n}\n\
                    set s {\ntype ifname . ipv4_addr\n}\n}\n";
        assert_eq!(at_step(text, 3), text.replace("-150", "-147").replace("gen_0a", "gen_0a_3"));
        assert_eq!(at_step(text, 0), text.replace("gen_0a", "gen_0a_0"));
        assert_eq!((step_of("gen_0a_13"), step_of("gen_0a"), step_of("seal_0_1")), (Some(("0a", 13)), None, None));
    }
}
