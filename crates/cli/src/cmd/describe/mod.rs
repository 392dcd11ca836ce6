//! `describe`: one object in full.

mod plan;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::output::{Table, cell, coloured, line, render, time};
use crate::{Format, condition, refs};

/// What to describe.
#[derive(Subcommand, Debug)]
pub(crate) enum Describe {
    /// A plan with its latest migration
    #[command(alias = "plans")]
    Plan {
        #[command(flatten)]
        one: One,
        /// Show the virtual machines with their pipelines
        #[arg(long)]
        with_vms: bool,
        /// Show one virtual machine only
        #[arg(long, conflicts_with = "with_vms")]
        vm: Option<String>,
    },
    /// A provider
    #[command(alias = "providers")]
    Provider(One),
    /// A network or storage map
    #[command(subcommand, alias = "mappings")]
    Mapping(Mapping),
    /// A hook
    #[command(alias = "hooks")]
    Hook(One),
    /// A conversion
    #[command(alias = "conversions")]
    Conversion(One),
}

/// The two kinds of map.
#[derive(Subcommand, Debug)]
pub(crate) enum Mapping {
    /// A network map
    Network(One),
    /// A storage map
    Storage(One),
}

/// Which object.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// Name of the object
    name: Option<String>,
    /// Name of the object
    #[arg(long = "name", short = 'M', value_name = "NAME")]
    flag: Option<String>,
    /// Format
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Describe {
    /// Prints the object.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let (one, kind) = match self {
            Describe::Plan { one, .. } => (one, "Plan"),
            Describe::Provider(one) => (one, "Provider"),
            Describe::Mapping(Mapping::Network(one)) => (one, "NetworkMap"),
            Describe::Mapping(Mapping::Storage(one)) => (one, "StorageMap"),
            Describe::Hook(one) => (one, "Hook"),
            Describe::Conversion(one) => (one, "Conversion"),
        };
        let object = cluster.get(kind, &cluster.namespace, &refs::name(&one.name, &one.flag)?).await?;
        match one.output {
            Format::Json => return line(&serde_json::to_string_pretty(&object)?),
            Format::Yaml => return line(serde_saphyr::to_string(&object)?.trim_end()),
            Format::Table | Format::Markdown => {}
        }
        let page = Page { cluster };
        page.head(kind, &object)?;
        match self {
            Describe::Plan { with_vms, vm, .. } => plan::run(&page, &object, *with_vms, vm.as_deref())?,
            Describe::Provider(_) => {
                page.field("Type", &cell(&object["spec"]["type"]))?;
                page.field("URL", &cell(&object["spec"]["url"]))?;
                page.field("Secret", &cell(&object["spec"]["secret"]["name"]))?;
                page.field("Phase", &cell(&object["status"]["phase"]))?;
                page.fields("SETTINGS", &object["spec"]["settings"])?;
            }
            Describe::Mapping(_) => {
                page.field("Source", &cell(&object["spec"]["provider"]["source"]["name"]))?;
                page.field("Target", &cell(&object["spec"]["provider"]["destination"]["name"]))?;
                page.entries(&object)?;
            }
            Describe::Hook(_) => {
                for (title, key) in
                    [("Image", "image"), ("Service Account", "serviceAccount"), ("Deadline", "deadline")]
                {
                    page.field(title, &cell(&object["spec"][key]))?;
                }
                page.playbook(&object["spec"]["playbook"])?;
            }
            Describe::Conversion(_) => {
                page.field("Type", &cell(&object["spec"]["type"]))?;
                page.field("VM", &cell(&object["spec"]["vm"]["name"]))?;
                for (title, key) in [
                    ("Phase", "phase"),
                    ("Stage", "stage"),
                    ("Message", "message"),
                    ("Started", "startTime"),
                    ("Completed", "completionTime"),
                ] {
                    page.field(title, &cell(&object["status"][key]))?;
                }
            }
        }
        page.conditions(&object)
    }
}

/// Writes sections.
pub(crate) struct Page<'a> {
    pub cluster: &'a Cluster,
}

impl Page<'_> {
    fn head(&self, kind: &str, object: &Value) -> anyhow::Result<()> {
        line(&format!("{}\n{}", kind.to_uppercase(), "=".repeat(80)))?;
        self.field("Name", &cell(&object["metadata"]["name"]))?;
        self.field("Namespace", &cell(&object["metadata"]["namespace"]))?;
        self.field("Created", &time(&self.cluster.global, &object["metadata"]["creationTimestamp"]))
    }

    /// Writes a field; an empty one is left out.
    pub fn field(&self, title: &str, value: &str) -> anyhow::Result<()> {
        if value.is_empty() { Ok(()) } else { line(&format!("{:20}{value}", format!("{title}:"))) }
    }

    /// Writes a section's title.
    pub fn section(&self, title: &str) -> anyhow::Result<()> {
        line(&format!("\n{title}"))
    }

    /// Writes a table.
    pub fn table(&self, table: &Table) -> anyhow::Result<()> {
        line(render(table, coloured(&self.cluster.global)).trim_end())
    }

    fn fields(&self, title: &str, object: &Value) -> anyhow::Result<()> {
        let Some(map) = object.as_object().filter(|map| !map.is_empty()) else { return Ok(()) };
        self.section(title)?;
        map.iter().try_for_each(|(key, value)| self.field(key, &cell(value)))
    }

    /// Writes a map's rows.
    pub fn entries(&self, map: &Value) -> anyhow::Result<()> {
        let rows = map["spec"]["map"].as_array().into_iter().flatten().map(|row| {
            let (source, target) = (&row["source"], &row["destination"]);
            let source =
                source["name"].as_str().or(source["id"].as_str()).or(source["type"].as_str()).unwrap_or_default();
            let target = match (target["storageClass"].as_str(), target["name"].as_str()) {
                (Some(class), _) => class.to_owned(),
                (None, Some(name)) => format!("{}/{name}", cell(&target["namespace"])),
                (None, None) => cell(&target["type"]),
            };
            vec![source.to_owned(), target]
        });
        self.section("MAPPING ENTRIES")?;
        self.table(&Table { titles: vec!["SOURCE", "DESTINATION"], rows: rows.collect() })
    }

    fn playbook(&self, playbook: &Value) -> anyhow::Result<()> {
        use base64::Engine;
        let Some(text) = playbook.as_str().filter(|text| !text.is_empty()) else { return Ok(()) };
        let decoded =
            base64::engine::general_purpose::STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        self.section("PLAYBOOK")?;
        line(decoded.as_deref().unwrap_or("(not readable: it is not base64 of text)"))
    }

    fn conditions(&self, object: &Value) -> anyhow::Result<()> {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.is_empty() {
            return Ok(());
        }
        self.section("CONDITIONS")?;
        let rows = conditions
            .iter()
            .map(|one| vec![cell(&one["type"]), cell(&one["status"]), cell(&one["category"]), condition::message(one)]);
        self.table(&Table { titles: vec!["TYPE", "STATUS", "CATEGORY", "MESSAGE"], rows: rows.collect() })
    }
}
