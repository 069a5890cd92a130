//! Hooks and priorities of the base chains, and the chain that names the ruleset.
//!
//! A ruleset that replaces another stands one step behind it ([`STEPS`]), so a frame between the two meets the new one
//! after the old one. The kernel switches the rules of both at one moment, wherever the frame is: the old chain checks it
//! before that moment, the new one after it. In the opposite order neither may.
//!
//! So the priorities of two chains in one hook are at least [`STEPS`] apart, and none of the kernel's own priorities lies
//! within these steps: connection tracking at -200 of "prerouting" and "output", the reassembly before that at -400,
//! translation at -100 and, in "postrouting", at 100 (`include/uapi/linux/netfilter_ipv4.h`); bridged packets come to
//! IP's hooks at 0 of "prerouting" and -1 of "forward" (`net/bridge/br_netfilter_hooks.c`).

use std::fmt;

/// How many steps a base chain has, from its own priority on.
pub(crate) const STEPS: i32 = 16;

/// A place in the kernel's way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseHook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    /// Its priority at the first step.
    pub(crate) priority: i32,
}

macro_rules! priorities {
    ($($family:ident $kind:ident $hook:ident { $($name:ident $priority:literal)* })*) => {
        $($(pub(super) const $name: BaseHook =
            BaseHook { kind: stringify!($kind), hook: Hook::$hook, priority: $priority };)*)*
        #[cfg(test)]
        const ALL: &[(&str, BaseHook)] = &[$($((stringify!($family), $name),)*)*];
    };
}

priorities! {
    bridge filter Prerouting {
        PORT_SECURITY -400
        EARLY_PORT_IN -360 EARLY_BRIDGE_IN -340 EARLY_ROUTER_OUT -320 EARLY_ROUTER_PORT_OUT -300
        PORT_IN 20 BRIDGE_IN 40
    }
    bridge filter Input { OWN_MAC -350 ROUTER_OUT 20 ROUTER_PORT_OUT 40 }
    bridge filter Forward { BRIDGE_OUT -60 PORT_OUT -40 }
    bridge filter Output { ROUTER_PORT_IN 20 ROUTER_IN 40 ROUTED_OUT 60 ROUTED_PORT_OUT 80 }
    ip filter Prerouting {
        FRAGMENTS -450 UNKNOWN_INTERFACES -320
        FLOWS_ARRIVING -198 HOST_ARRIVING -180 DOWN -162 PORTS_INBOUND -144 INBOUND -126
        INBOUND_AFTER -90
    }
    ip nat Prerouting { HOST_DESTINATIONS -150 DESTINATIONS -100 }
    ip filter Input { REJECTED_INPUT -20 INPUT 0 }
    ip filter Forward {
        SERVICES -80 FLOWS_COUNTED -60 REJECTED_FORWARD -40 HOST_PASSING -20 OUTBOUND 0 PORTS_OUTBOUND 20 KNOWN_HOSTS 40
    }
    ip filter Output { OWN_OUTPUT -190 FLOWS_OWN -170 }
    ip filter Postrouting { HOST_LEAVING -20 OUTBOUND_AFTER 120 PORTS_OUTBOUND_AFTER 140 }
    ip nat Postrouting { HOST_SOURCES 80 SOURCES 100 }
}

/// What the name of the empty chain begins with that holds the ruleset id.
const ID_CHAIN: &str = "gen_";

/// The name of the empty chain that identifies the loaded ruleset and its step.
pub(super) fn id_chain(id: &str, step: Option<i32>) -> String {
    match step {
        Some(step) => format!("{ID_CHAIN}{id}_{step}"),
        None => format!("{ID_CHAIN}{id}"),
    }
}

/// Reads the name of a chain that is loaded: the ruleset id and the step; none for any other chain.
pub(crate) fn read_id_chain(chain: &str) -> Option<(&str, i32)> {
    let (id, step) = chain.strip_prefix(ID_CHAIN)?.split_once('_')?;
    Some((id, step.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ALL, BaseHook, Hook, STEPS, id_chain, read_id_chain};

    #[test]
    fn no_two_chains_of_a_hook_and_no_priority_of_the_kernel_lie_within_the_steps_of_another() {
        let kernel = |(family, hook, priority)| (family, BaseHook { kind: "filter", hook, priority });
        let kernel = [
            ("bridge", Hook::Prerouting, 0),
            ("bridge", Hook::Forward, -1),
            ("ip", Hook::Prerouting, -400),
            ("ip", Hook::Prerouting, -200),
            ("ip", Hook::Prerouting, -100),
            ("ip", Hook::Output, -200),
            ("ip", Hook::Output, -100),
            ("ip", Hook::Postrouting, 100),
        ]
        .map(kernel);
        let mut hooks = BTreeMap::<_, Vec<(i32, bool)>>::new();
        for (list, ours) in [(ALL, true), (&kernel[..], false)] {
            for (family, BaseHook { kind, hook, priority }) in list {
                hooks.entry((family, kind, hook)).or_default().push((*priority, ours));
            }
        }
        for (hook, mut priorities) in hooks {
            priorities.sort_unstable();
            for pair in priorities.windows(2) {
                let ((priority, ours), (next, _)) = (pair[0], pair[1]);
                assert!(next - priority >= if ours { STEPS } else { 1 }, "{hook:?}: {priority} and {next}");
            }
        }
    }

    #[test]
    fn the_id_chain_is_read_as_it_was_written() {
        assert_eq!(read_id_chain(&id_chain("0a", Some(13))), Some(("0a", 13)));
        assert_eq!((read_id_chain(&id_chain("0a", None)), read_id_chain("checksum_0_1")), (None, None));
    }
}
