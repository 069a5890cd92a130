//! `atollctl`: the command line of operators. Only this file prints and ends the process. If the output could not be
//! written, the command fails, even if its work is complete.

mod address;
mod args;
mod attachment;
mod certificate;
mod change;
mod check;
mod delete;
mod doctor;
#[cfg(test)]
mod documented;
mod dot;
mod evict;
mod explain;
mod failure;
mod gc;
mod init;
mod install;
mod interrupt;
mod inventory;
mod links;
mod local;
mod member;
mod nodefiles;
mod output;
mod plugin;
mod progress;
mod prune;
mod reservation;
mod runtime;
mod set;
mod settings;
mod subnet;
mod tenant;
mod topology;
mod tree;

use std::process::ExitCode;

use atoll_node::files::{make, print};
use clap::{CommandFactory as _, Parser as _};

use crate::args::{AddressCommand, Args, AttachmentCommand, Command, TenantCommand};
use crate::failure::Failure;
use crate::output::CommandOutput;
use crate::settings::Settings;

fn main() -> ExitCode {
    make::umask();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return print::help(&help.render().to_string(), &help.render().ansi().to_string()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = interrupt::receive(args.command.remains()).and(runtime);
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(error) => Err(Failure::local("the runtime could not be started", &error)),
    };
    match done {
        Ok(CommandOutput { text, exit_code }) => {
            if print::or_say(&text, "the command itself came to its end") {
                exit_code.into()
            } else {
                ExitCode::FAILURE
            }
        }
        Err(failure) => {
            print::say(&failure.to_string());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Carries out the command; returns its output.
async fn run(args: &Args) -> Result<CommandOutput, Failure> {
    match &args.command {
        // These work without a configuration.
        Command::Doctor(options) => return Ok(doctor::run(args.config.as_deref(), args.output, options).await),
        Command::Install(options) => return install::install(args.output, options).await.map(CommandOutput::from),
        Command::Uninstall(options) => return install::uninstall(args.output, options).await.map(CommandOutput::from),
        _ => {}
    }
    if let Command::Completion { shell } = &args.command {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Args::command(), "atollctl", &mut script);
        return String::from_utf8(script).map(CommandOutput::from).map_err(|error| Failure::other(error.to_string()));
    }
    let settings = Settings::load(args.config.as_deref())?;
    let text = match &args.command {
        Command::Init(options) => init::run(&settings, args.output, options).await,
        Command::Topology(options) => topology::run(&settings, args.output, options).await,
        Command::Tenant(TenantCommand::List) => tenant::list(&settings, args.output).await,
        Command::Tenant(TenantCommand::Show(options)) => tenant::show(&settings, args.output, options).await,
        Command::Tenant(TenantCommand::Create(options)) => {
            return Box::pin(change::create(&settings, args.output, options)).await;
        }
        Command::Tenant(TenantCommand::Plan { tenant }) => change::plan(&settings, args.output, tenant).await,
        Command::Tenant(TenantCommand::Repair(options)) => change::repair(&settings, args.output, options).await,
        Command::Tenant(TenantCommand::Delete(options)) => delete::run(&settings, args.output, options).await,
        Command::Tenant(TenantCommand::Prune(options)) => prune::run(&settings, args.output, options).await,
        Command::Tenant(TenantCommand::Set(options)) => set::run(&settings, args.output, options).await,
        Command::Tenant(TenantCommand::Join(options)) => member::run(&settings, args.output, options, true).await,
        Command::Tenant(TenantCommand::Leave(options)) => member::run(&settings, args.output, options, false).await,
        Command::Subnet(subnet) => subnet::run(&settings, args.output, subnet).await,
        Command::Attachment(AttachmentCommand::List(options)) => {
            attachment::list(&settings, args.output, options).await
        }
        Command::Attachment(AttachmentCommand::EvictNode(options)) => evict::run(&settings, args.output, options).await,
        Command::Attachment(AttachmentCommand::Show(options)) => {
            return Box::pin(explain::run(&settings, args.output, options)).await;
        }
        Command::Gc(options) => return Box::pin(gc::run(&settings, args.output, options)).await,
        Command::Address(AddressCommand::Check(options)) => return check::run(&settings, args.output, options).await,
        Command::Address(AddressCommand::List { tenant }) => {
            address::list(&settings, args.output, tenant.as_ref()).await
        }
        Command::Address(AddressCommand::Reserve(options)) => reservation::run(&settings, args.output, options).await,
        Command::Address(AddressCommand::Release(options)) => {
            reservation::release(&settings, args.output, options).await
        }
        // Answered above.
        Command::Doctor(_) | Command::Install(_) | Command::Uninstall(_) | Command::Completion { .. } => {
            Ok(String::new())
        }
    };
    text.map(CommandOutput::from)
}
