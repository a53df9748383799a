//! The command line: its grammar, and the function that runs each command.

mod commands;
mod environment;
mod failure;
mod hints;
mod inputs;
mod lockfiles;
mod options;
mod output;
mod platforms;
mod report;
mod show;
mod signals;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use commands::Command;
use report::OutputOptions;
use report::Report;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  any other failure
  2  usage error
  3  out of date
  4  not found or gone
  5  access denied
  6  rate limited
  7  network or server failure after all retries
  8  verification failed: digest, size, media type or format";

/// Pin container images in lockfiles and fetch them into the Nix store.
#[derive(Parser)]
#[command(name = "n2c", version, max_term_width = 100, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    output: OutputOptions,

    #[command(subcommand)]
    command: Command,
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = Arc::new(Report::new(&cli.output));
    match commands::run(cli.command, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
