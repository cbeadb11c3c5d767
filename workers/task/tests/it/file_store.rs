//! The conformance suite of `FileStore`, run against both adapters.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use stores::StoreError;
use tasks::attachments::Attachments;
use tasks::domain::{Attachment, Task};
use tasks::store::TaskStore;
use tasks::store::files::{CHUNK, FileRef, FileStore};
use tasks_mongo::files::GridFsFiles;
use tasks_sqlite::SqliteTaskStore;
use tasks_sqlite::disk::DiskFiles;
use tempfile::TempDir;
use testkit::shared_mongodb;

use crate::conformance::{at, new, user};
use crate::support::{ManualClock, content, store};

/// A store of files, and the store of the tasks that list them.
struct Stores<F> {
    files: F,
    tasks: Arc<dyn TaskStore>,
    _folder: Option<TempDir>,
}

async fn on_disk() -> Stores<DiskFiles> {
    let folder = TempDir::new().unwrap();
    Stores {
        files: DiskFiles::open(&folder.path().join("attachments")).unwrap(),
        tasks: Arc::new(SqliteTaskStore::open(&folder.path().join("tasks.db")).unwrap()),
        _folder: Some(folder),
    }
}

async fn in_mongodb() -> Stores<GridFsFiles> {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let tasks = store(&mongo.url(), &name).await;
    tasks.prepare().await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let files = GridFsFiles::new(&client.database(&name));
    files.prepare().await.unwrap();
    Stores {
        files,
        tasks: Arc::new(tasks),
        _folder: None,
    }
}

/// Makes one test per fact and adapter.
macro_rules! file_store_conformance {
    ($($fact:ident)*) => {
        mod disk { $(
            #[tokio::test]
            async fn $fact() {
                super::$fact(super::on_disk().await).await;
            }
        )* }
        mod gridfs { $(
            #[tokio::test]
            async fn $fact() {
                super::$fact(super::in_mongodb().await).await;
            }
        )* }
    };
}

file_store_conformance! {
    a_file_is_read_as_it_was_written_chunk_by_chunk
    a_file_that_is_not_all_there_is_never_finished
    a_file_is_in_doubt_until_it_is_settled_and_again_when_it_is_doubted
    a_doubt_that_was_renewed_is_not_settled_by_who_saw_the_old_one
    a_removed_file_is_gone_and_may_be_removed_again
    a_sweep_keeps_what_a_task_lists_and_removes_the_rest_when_it_is_old
}

fn file() -> FileRef {
    FileRef {
        task: TaskId::new(),
        id: AttachmentId::new(),
    }
}

fn chunks(size: usize) -> Vec<Bytes> {
    let bytes = content(size);
    bytes.chunks(CHUNK).map(Bytes::copy_from_slice).collect()
}

async fn write(files: &impl FileStore, file: &FileRef, size: usize, ms: i64) {
    files.begin(file, at(ms)).await.unwrap();
    for (index, chunk) in (0..).zip(chunks(size)) {
        files.append(file, index, chunk).await.unwrap();
    }
    files.finish(file, size as u64).await.unwrap();
}

async fn in_doubt(files: &impl FileStore, before: i64) -> BTreeSet<FileRef> {
    let found = files.in_doubt(at(before), 100).await.unwrap();
    found.into_iter().collect()
}

async fn is_there(files: &impl FileStore, file: &FileRef) -> bool {
    files.read(file, 0).await.unwrap().is_some()
}

async fn a_file_is_read_as_it_was_written_chunk_by_chunk(stores: Stores<impl FileStore>) {
    let files = &stores.files;
    for size in [1, CHUNK, 2 * CHUNK + 5] {
        let file = file();
        write(files, &file, size, 0).await;
        for _ in 0..2 {
            for (index, chunk) in (0..).zip(chunks(size)) {
                assert_eq!(files.read(&file, index).await.unwrap(), Some(chunk));
            }
            let past_the_end = size.div_ceil(CHUNK) as u64;
            assert_eq!(files.read(&file, past_the_end).await.unwrap(), None);
            files
                .settle(std::slice::from_ref(&file), at(9))
                .await
                .unwrap();
        }
    }
    assert!(!is_there(files, &file()).await);
}

async fn a_file_that_is_not_all_there_is_never_finished(stores: Stores<impl FileStore>) {
    let (files, file) = (&stores.files, file());
    files.begin(&file, at(0)).await.unwrap();
    files.finish(&file, 0).await.unwrap();
    files
        .append(&file, 0, chunks(CHUNK).remove(0))
        .await
        .unwrap();
    let refused = files.finish(&file, CHUNK as u64 + 1).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    files.finish(&file, CHUNK as u64).await.unwrap();
    files.remove(std::slice::from_ref(&file)).await.unwrap();
    let refused = files.finish(&file, CHUNK as u64).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
}

async fn a_file_is_in_doubt_until_it_is_settled_and_again_when_it_is_doubted(
    stores: Stores<impl FileStore>,
) {
    let (files, one, two) = (&stores.files, file(), file());
    write(files, &one, 1, 10).await;
    write(files, &two, 1, 20).await;
    assert_eq!(in_doubt(files, 10).await, BTreeSet::new());
    assert_eq!(in_doubt(files, 11).await, BTreeSet::from([one.clone()]));
    let both = [one.clone(), two.clone()];
    assert_eq!(in_doubt(files, 21).await, BTreeSet::from(both.clone()));
    assert_eq!(files.in_doubt(at(21), 1).await.unwrap().len(), 1);

    files.settle(&both, at(100)).await.unwrap();
    files.settle(&both, at(100)).await.unwrap();
    assert_eq!(in_doubt(files, 100).await, BTreeSet::new());
    let with_an_unknown_file = [one.clone(), file()];
    assert_eq!(
        files
            .mark_in_doubt(&with_an_unknown_file, at(30))
            .await
            .unwrap(),
        1
    );
    assert_eq!(in_doubt(files, 31).await, BTreeSet::from([one.clone()]));
    assert!(is_there(files, &one).await && is_there(files, &two).await);
}

async fn a_doubt_that_was_renewed_is_not_settled_by_who_saw_the_old_one(
    stores: Stores<impl FileStore>,
) {
    let (files, one) = (&stores.files, [file()]);
    write(files, &one[0], 1, 10).await;
    assert_eq!(files.mark_in_doubt(&one, at(50)).await.unwrap(), 1);
    files.settle(&one, at(50)).await.unwrap();
    assert_eq!(in_doubt(files, 51).await.len(), 1);
    files.settle(&one, at(51)).await.unwrap();
    assert_eq!(in_doubt(files, 100).await.len(), 0);
}

async fn a_removed_file_is_gone_and_may_be_removed_again(stores: Stores<impl FileStore>) {
    let (files, kept, doubted, other) = (&stores.files, file(), file(), file());
    for file in [&kept, &doubted, &other] {
        write(files, file, CHUNK + 1, 0).await;
    }
    files
        .settle(std::slice::from_ref(&kept), at(9))
        .await
        .unwrap();
    let gone = [kept, doubted];
    for _ in 0..2 {
        files.remove(&gone).await.unwrap();
        assert!(!is_there(files, &gone[0]).await && !is_there(files, &gone[1]).await);
    }
    assert!(is_there(files, &other).await);
    assert_eq!(in_doubt(files, 9).await, BTreeSet::from([other]));
}

async fn a_sweep_keeps_what_a_task_lists_and_removes_the_rest_when_it_is_old(
    stores: Stores<impl FileStore + Clone>,
) {
    const MINUTE: i64 = 60_000;
    let files = &stores.files;
    let listed = file();
    let unlisted = FileRef {
        task: listed.task.clone(),
        id: AttachmentId::new(),
    };
    let (abandoned, young) = (file(), file());
    for file in [&listed, &unlisted, &abandoned] {
        write(files, file, 1, 0).await;
    }
    write(files, &young, 1, 3 * MINUTE).await;
    let attachment = Attachment {
        id: listed.id.clone(),
        name: "a".into(),
        content_type: "text/plain".into(),
        size: 1,
        sha256: String::new(),
    };
    let id = listed.task.clone();
    let (task, event) =
        Task::create_with_attachments(id, vec![attachment], user("ann"), new("x"), at(0));
    stores.tasks.insert(&task, &event, None).await.unwrap();
    assert_eq!(stores.tasks.get(&task.id).await.unwrap(), Some(task));

    let clock = Arc::new(ManualClock::at(at(5 * MINUTE)));
    let attachments = Attachments::new(Arc::new(files.clone()), clock.clone(), 1);
    attachments.sweep(&*stores.tasks).await.unwrap();
    assert_eq!(in_doubt(files, 6 * MINUTE).await.len(), 4);
    clock.set(at(5 * MINUTE + 1));
    attachments.sweep(&*stores.tasks).await.unwrap();
    assert_eq!(
        in_doubt(files, 6 * MINUTE).await,
        BTreeSet::from([young.clone()])
    );
    for (file, stays) in [
        (&listed, true),
        (&unlisted, false),
        (&abandoned, false),
        (&young, true),
    ] {
        assert_eq!(is_there(files, file).await, stays, "{file:?}");
    }
}
