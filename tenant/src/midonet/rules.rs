//! The rules of a chain. They have an order, they cannot be updated, and an operator may have put rules of his own
//! between them, which stay where they are.

use atoll_model::topology;
use atoll_sdn_client::compare::differences;
use atoll_sdn_client::dialect::Resource;
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::wire::Rule;
use atoll_sdn_client::{Client, Ensured};
use uuid::Uuid;

use super::apply::Done;
use super::mend as one;
use crate::controller::ControllerError;

/// Creates the rule at `place` (0 is the first) of a chain that was empty when this walk began.
pub(super) async fn create<T: Transport>(
    client: &Client<T>,
    chain: Uuid,
    place: usize,
    rule: &topology::Rule,
) -> Result<Done, ControllerError> {
    put(client, chain, place, rule).await
}

/// Makes the rules of a chain that was there what they should be, in their order.
pub(super) async fn mend<T: Transport>(
    client: &Client<T>,
    chain: Uuid,
    wanted: &[topology::Rule],
) -> Result<Done, ControllerError> {
    let dialect = client.dialect().await?;
    let found = client.list::<Rule>(&Scope::Of(Resource::Chain, chain)).await?;
    let mut order: Vec<Uuid> = found.iter().filter_map(|rule| rule.id).collect();
    let mut done = Done { rounds: 1, ..Done::default() };
    // The place from which on the next rule of ours must be.
    let mut from = 0;
    for rule in wanted {
        let at = order.iter().position(|id| *id == rule.id);
        let same = found
            .iter()
            .find(|found| found.id == Some(rule.id))
            .is_some_and(|found| differences(dialect, &Rule::from_topology(chain, from + 1, rule), found).is_empty());
        match at {
            Some(at) if same && at >= from => {
                done.kept += 1;
                from = at + 1;
                continue;
            }
            Some(at) => {
                client.delete(Resource::Rule, rule.id).await?;
                order.remove(at);
                from -= usize::from(at < from);
                done.mended += 1;
                done.rounds += 1;
            }
            None => done.created += 1,
        }
        done.rounds += put(client, chain, from, rule).await?.rounds;
        order.insert(from, rule.id);
        from += 1;
    }
    Ok(done)
}

async fn put<T: Transport>(
    client: &Client<T>,
    chain: Uuid,
    place: usize,
    rule: &topology::Rule,
) -> Result<Done, ControllerError> {
    let wanted = Rule::from_topology(chain, place + 1, rule);
    match client.ensure(&wanted).await? {
        Ensured::Created => Ok(Done::CREATED),
        Ensured::Kept => Ok(Done::KEPT),
        Ensured::Differs(differences) => Err(one::foreign(&wanted, &differences)),
    }
}
