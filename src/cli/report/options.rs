//! What the user wants to see.

use clap::{ArgAction, Args, ColorChoice, ValueEnum};

#[derive(Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct OutputOptions {
    /// Print only errors to stderr
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Also print requests, credential sources and rate limits
    #[arg(short, long, global = true, conflicts_with = "quiet", action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,

    /// When to show progress
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) progress: When,
}

/// When to show something that is meant for a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}
