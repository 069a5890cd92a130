//! The call graph of chains: which chain can reach which by jumps.
//!
//! A jump to a chain that is being evaluated is skipped, so what a chain does depends on how it was reached, but only on
//! those chains of the path that it can reach itself. Without loops there are none, and a chain is written once, whatever
//! the number of jumps to it.

use std::collections::BTreeSet;

use atoll_model::topology::{Rule, RuleAction};
use uuid::Uuid;

use super::view::View;

/// How many jumps may be nested. The kernel keeps 16 places (`NFT_JUMP_STACK_SIZE`), and refuses the whole filter when
/// some way is longer; the hook, the chain that is evaluated, its view of later fragments and a verdict of several
/// statements need one each.
pub(super) const DEEPEST: usize = 12;

/// How many chains one list of rules may become: loops can be entered at every chain, and in every order.
pub(super) const MOST: usize = 4096;

/// A chain and all that it can come to by jumps.
pub(super) fn reached(view: &View<'_>, chain: Uuid) -> BTreeSet<Uuid> {
    let (mut reached, mut next) = (BTreeSet::from([chain]), vec![chain]);
    while let Some(chain) = next.pop() {
        for rule in view.chain(chain).into_iter().flat_map(|chain| &chain.rules) {
            if let RuleAction::Jump { chain } = rule.action
                && reached.insert(chain)
            {
                next.push(chain);
            }
        }
    }
    reached
}

/// True when some rule of the chain, or of one that it can come to, passes the test.
pub(super) fn any(view: &View<'_>, chain: Uuid, test: impl Fn(&Rule) -> bool) -> bool {
    let chains = reached(view, chain);
    chains.iter().filter_map(|chain| view.chain(*chain)).flat_map(|chain| &chain.rules).any(test)
}

/// True when the action translates, or undoes a translation.
pub(super) fn is_translation(action: &RuleAction) -> bool {
    matches!(
        action,
        RuleAction::Snat { .. }
            | RuleAction::Dnat { .. }
            | RuleAction::ReverseSnat { .. }
            | RuleAction::ReverseDnat { .. }
    )
}

/// True when the action translates, or jumps to a chain that does.
pub(super) fn translates(view: &View<'_>, action: &RuleAction) -> bool {
    match action {
        RuleAction::Jump { chain } => any(view, *chain, |rule| is_translation(&rule.action)),
        action => is_translation(action),
    }
}
