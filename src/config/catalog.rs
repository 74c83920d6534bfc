//! Settings of where the catalog is.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};
use zeroize::Zeroizing;

use crate::model::DatabaseUrl;

/// Where the catalog is, if it is no file in the state directory.
#[derive(Debug, Clone, Default, Args)]
pub struct CatalogSettings {
    /// Database in PostgreSQL that the catalog is in, such as
    /// postgresql://motorcade@db.example/motorcade; a URL with a password is better set in the
    /// environment or in a file [default: a file in the state directory]
    #[arg(
        long,
        env = "MOTORCADE_CATALOG_URL",
        value_name = "URL",
        hide_env_values = true,
        value_parser = FromText
    )]
    catalog: Option<DatabaseUrl>,

    /// File that holds the URL of the catalog
    #[arg(
        long,
        env = "MOTORCADE_CATALOG_URL_FILE",
        value_name = "FILE",
        conflicts_with = "catalog",
        value_parser = FromFile
    )]
    catalog_url_file: Option<DatabaseUrl>,
}

impl CatalogSettings {
    /// The database, if the catalog is in one.
    pub fn url(&self) -> Option<DatabaseUrl> {
        self.catalog.clone().or_else(|| self.catalog_url_file.clone())
    }
}

/// Where a catalog is moved to.
#[derive(Debug, Clone, Default, Args)]
pub struct CatalogTarget {
    /// Empty database in PostgreSQL to move the catalog to; a URL with a password is better set in
    /// the environment or in a file
    #[arg(
        long,
        env = "MOTORCADE_TO_CATALOG_URL",
        value_name = "URL",
        hide_env_values = true,
        value_parser = FromText
    )]
    to_catalog: Option<DatabaseUrl>,

    /// File that holds the URL of that database
    #[arg(
        long,
        env = "MOTORCADE_TO_CATALOG_URL_FILE",
        value_name = "FILE",
        conflicts_with = "to_catalog",
        value_parser = FromFile
    )]
    to_catalog_url_file: Option<DatabaseUrl>,
}

impl CatalogTarget {
    /// The database, if the catalog moves.
    pub fn url(&self) -> Option<&DatabaseUrl> {
        self.to_catalog.as_ref().or(self.to_catalog_url_file.as_ref())
    }
}

/// Reads a URL, and never repeats one that it can't read: there may be a password in it.
#[derive(Debug, Clone)]
struct FromText;

impl TypedValueParser for FromText {
    type Value = DatabaseUrl;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<DatabaseUrl, clap::Error> {
        let url = value.to_str().unwrap_or_default().parse::<DatabaseUrl>();
        url.map_err(|error| refuse(command, &error.to_string()))
    }
}

/// The same from the file of that name.
#[derive(Debug, Clone)]
struct FromFile;

impl TypedValueParser for FromFile {
    type Value = DatabaseUrl;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<DatabaseUrl, clap::Error> {
        let path = value.to_string_lossy();
        if path.trim_start().starts_with("postgres") && !Path::new(value).exists() {
            return Err(refuse(command, URL_FOR_FILE));
        }
        let text = fs::read_to_string(value).map(Zeroizing::new);
        let text =
            text.map_err(|error| refuse(command, &format!("failed to read {path}: {error}")))?;
        text.parse().map_err(|error| refuse(command, &format!("{path}: {error}")))
    }
}

/// For what is taken for a URL, with a password in it perhaps.
const URL_FOR_FILE: &str = "--catalog-url-file takes the name of a file that holds the URL, and there is none of that \
     name; the URL itself goes to --catalog, or into MOTORCADE_CATALOG_URL";

fn refuse(command: &Command, why: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{why}\n")).with_cmd(command)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::FromArgMatches;

    use super::*;

    fn parse(words: &[&str]) -> Result<Option<String>, String> {
        let command = CatalogSettings::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let settings = CatalogSettings::from_arg_matches(&matches).unwrap();
        Ok(settings.url().map(|url| url.to_string()))
    }

    #[test]
    fn a_url_comes_as_a_text_or_in_a_file_and_is_never_repeated() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "postgresql://u:s3cret@db.example/cars").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let text = "postgresql://u:s3cret@db.example/vans";
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&["--catalog", text]), Ok(Some("postgresql://db.example/vans".into())));
        let in_file = parse(&["--catalog-url-file", &path]);
        assert_eq!(in_file, Ok(Some("postgresql://db.example/cars".into())));
        let both = parse(&["--catalog", text, "--catalog-url-file", &path]).unwrap_err();
        assert!(both.contains("cannot be used with"), "{both}");
        let wrong = parse(&["--catalog", "postgresql://u:s3cret@db.example/"]).unwrap_err();
        assert!(wrong.contains("names no database") && !wrong.contains("s3cret"), "{wrong}");
        let missing = parse(&["--catalog-url-file", "/nowhere"]).unwrap_err();
        assert!(missing.contains("failed to read /nowhere"), "{missing}");
        let url = parse(&["--catalog-url-file", text]).unwrap_err();
        assert!(url.contains("--catalog,") && !url.contains("s3cret"), "{url}");
    }
}
