//! The topology as Graphviz DOT.

use std::fmt::Write as _;

use atoll_tenant::inventory::Inventory;

use crate::inventory::name;

/// Draws the topology as Graphviz DOT.
pub(crate) fn draw(inventory: &Inventory) -> String {
    let mut text = "graph atoll {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n".to_owned();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "  {line}").expect("a String takes all");
    if let Some(cluster) = &inventory.cluster {
        line(format_args!("{} [label=\"provider router\", shape=ellipse];", quoted(&cluster.provider_router)));
    }
    for tenant in &inventory.tenants {
        let router = quoted(&tenant.router);
        line(format_args!("{router} [label={}, shape=ellipse];", quoted(&format!("router of {}", tenant.name))));
        if let Some(cluster) = &inventory.cluster {
            let ends = format!("{} - {}", tenant.transit.provider.ip(), tenant.transit.tenant.ip());
            line(format_args!("{} -- {router} [label={}];", quoted(&cluster.provider_router), quoted(&ends)));
        }
        for subnet in &tenant.subnets {
            let bridge = quoted(&subnet.bridge);
            line(format_args!(
                "{bridge} [label={}];",
                quoted(&format!("subnet {}\n{}", subnet.ordinal, subnet.cidrs()))
            ));
            line(format_args!("{router} -- {bridge} [label={}];", quoted(&subnet.gateways())));
            for pod in &subnet.pods {
                let label = format!("{}\n{}\non {}", name(pod), pod.address.ip(), pod.node);
                line(format_args!("{} [label={}, style=rounded];", quoted(&pod.port), quoted(&label)));
                line(format_args!("{bridge} -- {};", quoted(&pod.port)));
            }
        }
    }
    text.push_str("}\n");
    text
}

/// A DOT string: quotes and backslashes are escaped, a line break is `\n`.
fn quoted(text: &impl ToString) -> String {
    let text = text.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        assert_eq!(quoted(&"a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
