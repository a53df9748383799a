//! `n2c inspect`: describes an image, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::BinaryBytes;
use n2c::oci::digest::Digest;
use n2c::oci::image::Image;
use n2c::oci::location::Location;
use n2c::oci::manifest::{Descriptor, Document};
use n2c::oci::platform::Platform;
use n2c::resolve::{self, Resolution};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::failure::{Failure, Stdout, Usage};
use crate::cli::inputs;
use crate::cli::options::RegistryOptions;
use crate::cli::platforms::{self, PlatformOptions};
use crate::cli::report::Report;
use crate::cli::show::built::BuiltDetails;
use crate::cli::show::explain::{self, Explanation, Recorder};
use crate::cli::show::table::{lines_of, table};

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`, `oci:DIR[:TAG]`, or `nix:FILE` for an image.json
    image: String,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Also show how the result was found: index entries, credentials and requests; of an
    /// image.json, all store paths
    #[arg(long)]
    explain: bool,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    /// The reference, pinned to the digest that it resolved to.
    #[serde(rename = "ref")]
    reference: String,
    media_type: String,
    digest: Digest,
    platforms: Vec<Row>,
    /// The image for the named platform, or for this machine's if none was named.
    /// Null if none was named and there is no image for this machine.
    image: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    platform: Platform,
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    platform: Platform,
    media_type: String,
    digest: Digest,
    /// The sum of the layers' sizes in bytes, counting repeated layers once.
    download_size: u64,
    layers: Vec<Layer>,
    /// The image's config, as served.
    config: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    if let Some(file) = options.image.strip_prefix("nix:") {
        return inspect_built(file, &options, report);
    }
    let recorder = Arc::new(Recorder::new(report.clone()));
    let (json, explain) = (options.json, options.explain);
    let inspection = match inspect(options, report, &recorder).await {
        Ok(inspection) => inspection,
        Err(failure) => {
            if explain {
                recorder.tell();
            }
            return Err(failure);
        }
    };
    if json {
        let value = serde_json::to_value(&inspection).map_err(|error| Stdout(error.into()))?;
        let value = report.hidden(value);
        let text = n2c::text::json(&format!("{value:#}\n"));
        Report::result(None, text.as_bytes())
    } else {
        report.text(&inspection.to_text(report))
    }
}

/// Shows an image that was built from store paths.
fn inspect_built(file: &str, options: &Options, report: &Report) -> Result<(), Failure> {
    let image = BuiltDetails::new(&inputs::image(Path::new(file))?, options.explain);
    if options.json {
        let text = serde_json::to_string_pretty(&image).map_err(|error| Stdout(error.into()))?;
        return Report::result(None, n2c::text::json(&format!("{text}\n")).as_bytes());
    }
    report.text(&image.to_text(report))
}

async fn inspect(
    options: Options,
    report: &Report,
    recorder: &Arc<Recorder>,
) -> Result<Inspection, Failure> {
    let location: Location = options.image.parse()?;
    let named = options.platforms.named(report)?;
    if named.len() > 1 {
        return Err(Usage::new("`inspect` shows a single image", "name one `--platform`").into());
    }
    let client = options.registry.client_with(report, recorder.clone())?;
    let resolution = Resolution::open(&location, &client, &**recorder).await?;
    let listed = resolution.list().await?;
    let wanted = match named.first() {
        Some(platform) => platform.clone(),
        None => Platform::host(),
    };
    let found = match platforms::as_it_is(&named, &resolution) {
        Some(only) => only.image().await,
        None => resolution.image(&wanted).await,
    };
    let details = match found {
        Ok(image) => {
            let built = image.config().platform().filter(|_| named.is_empty()).cloned();
            let shown = built.filter(|_| resolution.only().is_some()).unwrap_or(wanted.clone());
            if named.is_empty() && shown == wanted {
                report.note(&format!(
                    "showing `{wanted}` for this machine; choose another with `--platform`"
                ));
            }
            if image.manifest().needs_nix_snapshotter() {
                report.note("the image lacks its files: nix-snapshotter mounts its store paths");
            }
            Some(Details::new(shown, &image))
        }
        Err(resolve::Error::NoPlatform { wanted, .. }) if named.is_empty() => {
            report.note(&format!("there is no image for `{wanted}`; choose with `--platform`"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let explanation = if options.explain {
        let entries = resolution.explain(&wanted).await?;
        let mut explanation = recorder.explanation();
        explanation.entries = entries.into_iter().map(explain::Entry::from).collect();
        Some(explanation)
    } else {
        None
    };
    Ok(Inspection::new(&resolution, listed, details, explanation))
}

impl Inspection {
    fn new(
        resolution: &Resolution<'_>,
        listed: Vec<(Platform, Descriptor)>,
        image: Option<Details>,
        explanation: Option<Explanation>,
    ) -> Self {
        let media_type = match resolution.root() {
            Document::Index(index) => index.media_type(),
            Document::Manifest(manifest) => manifest.media_type(),
        };
        let platforms = listed
            .into_iter()
            .map(|(platform, descriptor)| Row {
                platform,
                media_type: descriptor.media_type,
                digest: descriptor.digest,
                size: descriptor.size,
            })
            .collect();
        Self {
            reference: resolution.location().to_string(),
            media_type: media_type.to_owned(),
            digest: resolution.root().raw().digest().clone(),
            platforms,
            image,
            explanation,
        }
    }

    fn to_text(&self, report: &Report) -> String {
        let mut text = format!("{}\n{}\n\n", self.reference, self.media_type);
        let mut table = table(&["PLATFORM", "MANIFEST"]);
        for listed in &self.platforms {
            table.add_row([listed.platform.to_string(), listed.digest.to_string()]);
        }
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", lines_of(table));
        if let Some(details) = &self.image {
            details.add_text(&mut text, report);
        }
        if let Some(explanation) = &self.explanation {
            add_explanation(explanation, &mut text, report);
        }
        text
    }
}

fn add_explanation(explanation: &Explanation, text: &mut String, report: &Report) {
    if !explanation.entries.is_empty() {
        let mut entries = table(&["INDEX", "PLATFORM", "", "WHY"]);
        for entry in &explanation.entries {
            let indent = "  ".repeat(entry.depth - 1);
            let platform =
                entry.platform.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            let verdict = if entry.taken { "taken" } else { "skipped" };
            let digest = format!("{indent}{}", entry.digest);
            entries.add_row([digest, platform, verdict.to_owned(), report.cell(&entry.reason)]);
        }
        let _ = writeln!(text, "\n{}", lines_of(entries));
    }
    if !explanation.credentials.is_empty() {
        let mut credentials = table(&["CREDENTIALS", ""]);
        for found in &explanation.credentials {
            let origin = found.origin.as_deref().unwrap_or("none");
            credentials.add_row([found.repository.clone(), report.cell(origin)]);
        }
        let _ = writeln!(text, "\n{}", lines_of(credentials));
    }
    let mut requests = table(&["REQUEST", "STATUS", "TIME"]);
    for request in &explanation.requests {
        let time = format!("{} ms", request.milliseconds);
        requests.add_row([
            format!("{} {}", request.method, request.url),
            request.status.to_string(),
            time,
        ]);
    }
    let _ = writeln!(text, "\n{}", lines_of(requests));
}

impl Details {
    fn new(platform: Platform, image: &Image) -> Self {
        let manifest = image.manifest();
        let layers = manifest.layers().iter().zip(image.config().diff_ids());
        Self {
            platform,
            media_type: manifest.media_type().to_owned(),
            digest: manifest.raw().digest().clone(),
            download_size: manifest.download_size(),
            layers: layers
                .map(|(layer, diff_id)| Layer {
                    media_type: layer.media_type.clone(),
                    digest: layer.digest.clone(),
                    size: layer.size,
                    diff_id: diff_id.clone(),
                })
                .collect(),
            config: image.config().object().clone(),
        }
    }

    fn add_text(&self, text: &mut String, report: &Report) {
        let size = BinaryBytes(self.download_size);
        let count = self.layers.len();
        let layers = if count == 1 { "layer" } else { "layers" };
        let _ = writeln!(text, "\n{}: {count} {layers}, {size} to download\n", self.platform);
        let mut table = table(&["LAYER", "SIZE", "TYPE"]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for layer in &self.layers {
            let kind = layer.media_type.rsplit_once("tar").map_or("tar", |(_, rest)| rest);
            let kind = kind.trim_start_matches(['.', '+']);
            table.add_row([
                layer.digest.to_string(),
                BinaryBytes(layer.size).to_string(),
                report.cell(if kind.is_empty() { "tar" } else { kind }),
            ]);
        }
        let _ = writeln!(text, "{}\n", lines_of(table));
        self.add_config(text, report);
    }

    fn add_config(&self, text: &mut String, report: &Report) {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if let Some(created) = self.config.get("created").and_then(Value::as_str) {
            table.add_row(["Created", &report.cell(created)]);
        }
        let run_config = self.config.get("config").and_then(Value::as_object);
        for (key, value) in run_config.into_iter().flatten() {
            for line in lines(value) {
                table.add_row([report.cell(key), report.cell(&line)]);
            }
        }
        if table.row_count() > 0 {
            let _ = writeln!(text, "{}", lines_of(table));
        }
    }
}

/// Formats a field of a config, one line for each item in it.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Null | Value::Bool(false) => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => {
            let texts = values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            texts.collect()
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match value {
                Value::Object(empty) if empty.is_empty() => key.clone(),
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            })
            .collect(),
        other => vec![other.to_string()],
    }
}
