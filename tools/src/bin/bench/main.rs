//! `atoll-bench`: speed and size of the plugin, measured in one run beside the standard plugins and compared with their bounds.
//!
//! Started by the script `bench`, which builds and installs what is missing. It reports and does not judge: exit code 1
//! is for duplicates, leaks and failures only, 2 means that it failed before. Everything runs in namespaces of its own,
//! as whole processes. The variants alternate in rounds, so that load of the machine affects all of them alike.
//!
//! | module | what |
//! |---|---|
//! | [`site`] | one kind of plugin with a network of its own; one call of it, with what it cost |
//! | [`warm`] | ADD, DEL and VERSION, memory, requests, forks |
//! | [`fill`] | ADD while more and more addresses of a /16 are in use |
//! | [`concurrency`] | many ADDs at a time |
//! | [`ovn`] | the engine OVN: our share of a call, and what a pod costs the daemons |
//! | [`tcp`] | the throughput of the data plane, measured by its example |
//! | [`progress`] | the current step, on standard error |
//! | [`spread`] | median and tenths of samples |
//! | [`report`] | findings, as a table and as JSON |

mod concurrency;
mod fill;
mod ovn;
mod progress;
mod report;
mod site;
mod spread;
mod tcp;
mod warm;

use std::process::ExitCode;

use anyhow::Result;
use atoll_node::files::{make, print};
use atoll_tools::{engine::ToolEngine, signals};
use clap::Parser;

use progress::step;
use report::Report;

/// Speed and size of the plugin, measured in one run beside the standard plugins.
#[derive(Debug, Parser)]
struct Args {
    /// What makes the tenants' networks.
    #[arg(long, value_enum, default_value = "midonet")]
    engine: ToolEngine,
    /// Few rounds: shows that it works, and measures little of the machine.
    #[arg(long)]
    quick: bool,
    /// Print the findings as JSON, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
}

/// How many rounds and calls are measured.
#[derive(Clone, Copy, Debug)]
struct Amount {
    rounds: usize,
    fill_rounds: usize,
    concurrency: usize,
    tenants: usize,
    tcp_rounds: usize,
}

const FULL: Amount = Amount { rounds: 60, fill_rounds: 40, concurrency: 1000, tenants: 50, tcp_rounds: 10 };
const QUICK: Amount = Amount { rounds: 10, fill_rounds: 8, concurrency: 100, tenants: 5, tcp_rounds: 2 };

fn main() -> ExitCode {
    make::umask();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return print::help(&help.render().to_string(), &help.render().ansi().to_string()),
    };
    let left = format!("what is left begins with at-t{}-; `./run-tests` removes it", std::process::id());
    let measured = signals::end_with(format!("interrupted; {left}"));
    let report = match measured.and_then(|()| match args.engine {
        ToolEngine::Midonet => measure(if args.quick { QUICK } else { FULL }),
        ToolEngine::Ovn => ovn::measure(if args.quick { ovn::QUICK } else { ovn::FULL }),
    }) {
        Ok(report) => report,
        Err(error) => {
            step(&format!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    let text = if args.json { report.json() } else { report.text() };
    match print::or_say(&text, "") {
        true if report.sound() => ExitCode::SUCCESS,
        true => ExitCode::from(1),
        false => ExitCode::from(2),
    }
}

fn measure(amount: Amount) -> Result<Report> {
    let mut report = Report::begin();
    warm::measure(amount.rounds, &mut report)?;
    fill::measure(amount.fill_rounds, &mut report)?;
    concurrency::measure(amount.concurrency, amount.tenants, &mut report)?;
    tcp::measure(amount.tcp_rounds, &mut report)?;
    report.end();
    Ok(report)
}
