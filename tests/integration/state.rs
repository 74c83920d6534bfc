//! State directories: one is made the slow way for all tests, and each test gets a copy of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use motorcade::app::access::{self, NewToken};
use motorcade::app::audit::Author;
use motorcade::app::setup::StateDir;
use motorcade::envelope::key::{RecipientKey, RecipientPrivateKey};
use motorcade::keys::policy::Policy;
use motorcade::model::RecipientRecord;
use motorcade::model::{AccessRole, Clock, SystemClock, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::app::eventually;

/// The hardware id that has recipients.
pub(crate) const HARDWARE_ID: &str = "gw-mk3";

/// Hash bins of the repository: fewer than by default, since each is a file that has to reach the
/// disk.
pub(crate) const BINS: usize = 16;

/// A token of each role.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) uploader: String,
    pub(crate) engineer: String,
    pub(crate) officer: String,
    pub(crate) viewer: String,
    pub(crate) enroller: String,
}

impl Tokens {
    pub(crate) fn of(&self, role: AccessRole) -> &str {
        match role {
            AccessRole::Uploader => &self.uploader,
            AccessRole::Engineer => &self.engineer,
            AccessRole::Officer => &self.officer,
            AccessRole::Viewer => &self.viewer,
            AccessRole::Enroller => &self.enroller,
        }
    }
}

/// A state directory with tokens of every role and two recipients for [`HARDWARE_ID`]; removed when
/// dropped.
pub(crate) struct TestState {
    pub(crate) folder: TempDir,
    pub(crate) tokens: Tokens,
}

impl TestState {
    pub(crate) fn new() -> Self {
        static TEMPLATE: LazyLock<Template> = LazyLock::new(|| Template::make(|_| ()));
        Self::of(&TEMPLATE)
    }

    /// The same, made anew with what `prepare` has put into the folder before `init`, such as keys.
    pub(crate) fn prepared(prepare: impl FnOnce(&Path) + Send + 'static) -> Self {
        Self::of(&Template::make(prepare))
    }

    fn of(template: &Template) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode, bytes) in &template.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Self { folder, tokens: template.tokens.clone() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A connection to the catalog, for what the program itself would not do.
    pub(crate) async fn catalog(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path().join("catalog.sqlite"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    /// Changes the catalog behind the program's back.
    pub(crate) async fn sql(&self, statements: &str) {
        let mut catalog = self.catalog().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut catalog).await.unwrap();
        catalog.close().await.unwrap();
    }

    /// Waits until all of the catalog is in its file, soon after its server has stopped:
    /// connections that close at once can each leave the log to the other.
    pub(crate) async fn catalog_closed(&self) {
        let log = self.path().join("catalog.sqlite-wal");
        eventually("the catalog is in its file", async || {
            let mut connection = self.catalog().await;
            let emptied = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
            connection.close().await.unwrap();
            emptied.is_ok() && fs::metadata(&log).map_or(true, |log| log.len() == 0)
        })
        .await;
    }

    pub(crate) fn dir(&self) -> StateDir {
        StateDir::new(self.path())
    }

    /// Where the blob called `name` is.
    pub(crate) fn blob(&self, name: &str) -> PathBuf {
        self.path().join("repo").join(name)
    }

    /// Names of everything that the repository serves.
    pub(crate) fn stored_files(&self) -> BTreeSet<String> {
        files_below(&self.path().join("repo"))
    }

    /// The targets among [`Self::stored_files`].
    pub(crate) fn stored_targets(&self) -> BTreeSet<String> {
        self.stored_files().into_iter().filter(|name| name.starts_with("targets/")).collect()
    }

    /// Names of files on their way into the repository.
    pub(crate) fn staged_files(&self) -> BTreeSet<String> {
        files_below(&self.path().join("staging"))
    }

    /// The files of the state directory, the database's own included, that hold `needle`.
    pub(crate) fn files_with(&self, needle: &[u8]) -> Vec<String> {
        let holds = |name: &String| {
            // A staged file can be gone by now.
            let bytes = fs::read(self.path().join(name)).unwrap_or_default();
            bytes.windows(needle.len()).any(|window| window == needle)
        };
        files_below(self.path()).into_iter().filter(holds).collect()
    }

    /// The trust anchor.
    pub(crate) fn first_root(&self) -> Vec<u8> {
        fs::read(self.blob("1.root.json")).unwrap()
    }

    /// The catalog in one file, with what was in its log.
    pub(crate) async fn catalog_bytes(&self) -> Vec<u8> {
        self.catalog_closed().await;
        fs::read(self.path().join("catalog.sqlite")).unwrap()
    }

    /// Puts an earlier catalog in the place of what is there.
    pub(crate) async fn put_catalog_back(&self, bytes: &[u8]) {
        self.catalog_bytes().await;
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(self.path().join(format!("catalog.sqlite{suffix}")));
        }
        fs::write(self.path().join("catalog.sqlite"), bytes).unwrap();
    }

    /// Asserts that the catalog knows no blob that waits for its image, and that fsck finds
    /// nothing.
    pub(crate) async fn assert_clean(&self) {
        let catalog = self.dir().open_catalog().await.unwrap();
        let pending = catalog.pending_blobs().await.unwrap();
        catalog.close().await;
        assert_eq!(pending, Vec::<String>::new());
        assert_eq!(self.staged_files(), BTreeSet::new());
        let findings = motorcade::app::fsck::check(
            &self.dir(),
            motorcade::app::fsck::Damaged::Report,
            |_, _| (),
        )
        .await;
        assert_eq!(findings.unwrap().problems, Vec::<String>::new());
    }
}

/// The files of a state directory that was initialized.
struct Template {
    files: Vec<(String, u32, Vec<u8>)>,
    tokens: Tokens,
}

impl Template {
    fn make(prepare: impl FnOnce(&Path) + Send + 'static) -> Self {
        // A runtime can't be started within another one, and tests run in theirs.
        let making = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(Self::make_async(prepare))
        });
        making.join().unwrap()
    }

    async fn make_async(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let policy = Policy::DEFAULT.replace("prefix_digits = 2", "prefix_digits = 1");
        fs::create_dir(folder.path().join("metadata")).unwrap();
        fs::write(folder.path().join("metadata/policy.toml"), policy).unwrap(); // which init leaves as it is
        prepare(folder.path());
        state.init(Arc::new(SystemClock)).await.unwrap();
        let catalog = state.open_catalog().await.unwrap();
        let now = SystemClock.now();
        let create = async |role| {
            access::create_token(&catalog, NewToken::of(role, "test"), now)
                .await
                .unwrap()
                .to_string()
        };
        let tokens = Tokens {
            uploader: create(AccessRole::Uploader).await,
            engineer: create(AccessRole::Engineer).await,
            officer: create(AccessRole::Officer).await,
            viewer: create(AccessRole::Viewer).await,
            enroller: create(AccessRole::Enroller).await,
        };
        for key in ["snakeoil_p256", "snakeoil_rsa2048"] {
            let key = RecipientKey::parse(&key_file(&format!("{key}.pub.pem"))).unwrap();
            let record = RecipientRecord {
                hardware_id: HARDWARE_ID.parse().unwrap(),
                kid: key.kid().to_string(),
                jwk: key.to_jwk().to_string(),
                created_at: now,
                created_by: "template".into(),
            };
            assert!(catalog.insert_recipient(&record, &Author::server(now)).await.unwrap());
        }
        catalog.close().await;
        let read = |name: String| {
            let path = folder.path().join(&name);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            (name, mode, fs::read(path).unwrap())
        };
        Self { files: files_below(folder.path()).into_iter().map(read).collect(), tokens }
    }
}

/// A file of tests/vectors/keys.
pub(crate) fn key_file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keys");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// A private key of tests/vectors/keys, such as `snakeoil_p256`.
pub(crate) fn private_key(name: &str) -> RecipientPrivateKey {
    RecipientPrivateKey::parse(&key_file(&format!("{name}.pem"))).unwrap()
}

/// Names of all files below `folder`, relative to it.
pub(crate) fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let Ok(entries) = fs::read_dir(&current) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files
}

/// A clock that stands still until it is told to go on.
pub(crate) struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that starts at the time of now, which is when the template was signed.
    pub(crate) fn starting_now() -> Arc<Self> {
        Arc::new(Self(Mutex::new(SystemClock.now())))
    }

    pub(crate) fn advance_hours(&self, hours: u64) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now += std::time::Duration::from_secs(hours * 3600);
    }
}

impl ManualClock {
    /// What a person, or a battery that is empty, sets it to.
    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
