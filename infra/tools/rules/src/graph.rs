//! Which file uses which, and the cycles in that graph.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Modules, Names};

/// How many re-exports a name is followed through.
const MAX_REEXPORTS: usize = 16;

pub(crate) type Uses = BTreeMap<String, BTreeSet<String>>;

/// For each file, the files that define the items it names.
pub(crate) fn uses(modules: &Modules) -> Uses {
    let mut uses = Uses::new();
    for module in modules.values() {
        let from = uses.entry(module.file.clone()).or_default();
        for path in &module.paths {
            if let Some(to) = file_of(modules, path, MAX_REEXPORTS).filter(|to| *to != module.file)
            {
                from.insert(to.to_owned());
            }
        }
    }
    uses
}

pub(crate) fn cycles(uses: &Uses) -> Vec<Vec<String>> {
    let reach: Uses = uses
        .keys()
        .map(|file| (file.clone(), reachable(uses, file)))
        .collect();
    let mut found = BTreeSet::new();
    for (file, there) in &reach {
        let cycle: Vec<String> = there
            .iter()
            .filter(|other| reach[*other].contains(file))
            .cloned()
            .collect();
        if cycle.len() > 1 {
            found.insert(cycle);
        }
    }
    found.into_iter().collect()
}

/// Every file that `from` uses, directly or through others.
fn reachable(uses: &Uses, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = uses[from].iter().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file.clone()) {
            next.extend(uses.get(file).into_iter().flatten());
        }
    }
    seen
}

/// The file that defines the item at the end of `path`, following at most `left` re-exports.
fn file_of<'a>(modules: &'a Modules, path: &[String], left: usize) -> Option<&'a str> {
    let mut at = Names::new();
    for (depth, name) in path.iter().enumerate() {
        let module = modules.get(&at)?;
        let mut child = at.clone();
        child.push(name.clone());
        if modules.contains_key(&child) {
            at = child;
            continue;
        }
        if module.defines.contains(name) {
            return Some(&module.file);
        }
        let left = left.checked_sub(1)?;
        let behind = |start: &Names| [start, &path[depth + 1..]].concat();
        if let Some(original) = module.imports.get(name) {
            return file_of(modules, &behind(original), left);
        }
        // The name may come from a glob import.
        return module.globs.iter().find_map(|glob| {
            let mut inside = glob.clone();
            inside.push(name.clone());
            let target = modules.get(glob)?;
            let has = target.defines.contains(name) || target.imports.contains_key(name);
            has.then(|| file_of(modules, &behind(&inside), left))?
        });
    }
    // The path leads to a module. Importing a module is no use of its file; the paths through it are.
    None
}
