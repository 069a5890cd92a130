//! The rules of a chain. They have an order and cannot be updated. Rules that an operator added between them stay where they
//! are.

use atoll_model::topology;
use atoll_sdn_client::Resource;
use atoll_sdn_client::api::Rule;
use atoll_sdn_client::compare::differences;
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, Ensured};
use uuid::Uuid;

use crate::error::MidoNetError;
use crate::ownership::foreign;
use crate::step::StepResult;

/// Creates the rule at `place` (0 is the first) of a chain that was empty when this walk began.
pub(crate) async fn create<T: Transport>(
    client: &Client<T>,
    chain: Uuid,
    place: usize,
    rule: &topology::Rule,
) -> Result<StepResult, MidoNetError> {
    put(client, chain, place, rule).await
}

/// Repairs the rules of an existing chain, in their order.
pub(crate) async fn repair<T: Transport>(
    client: &Client<T>,
    chain: Uuid,
    wanted: &[topology::Rule],
) -> Result<StepResult, MidoNetError> {
    let dialect = client.dialect().await?;
    let found = client.list::<Rule>(&Scope::Of(Resource::Chain, chain)).await?;
    let mut order: Vec<Uuid> = found.iter().filter_map(|rule| rule.id).collect();
    let mut done = StepResult { rounds: 1, ..StepResult::default() };
    // The first position for our next rule.
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
                done.updated += 1;
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
) -> Result<StepResult, MidoNetError> {
    let wanted = Rule::from_topology(chain, place + 1, rule);
    match client.ensure(&wanted).await? {
        Ensured::Created => Ok(StepResult::CREATED),
        Ensured::Kept => Ok(StepResult::KEPT),
        Ensured::Differs(differences) => Err(foreign(&wanted, &differences)),
    }
}
