//! Lending a buffer and taking it back.

use std::sync::mpsc;

use raon_provider::{Config, Driver, Error};

use super::{Visit, keep};

const BATCH: usize = 256;

pub(super) fn each(visit: Visit<'_>) -> Result<(), Error> {
    let mut driver = Driver::open(&Config::default())?;
    visit("buffer, lent and returned on the owner's thread", BATCH as u64, &mut || {
        (0..BATCH).for_each(|_| keep(driver.buffer()));
    });
    // The other thread only drops; the channel carries a batch at a time, so that it is not what is measured.
    let (give, take) = mpsc::channel::<Vec<_>>();
    let (empty, emptied) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        while let Ok(mut buffers) = take.recv() {
            buffers.clear();
            if empty.send(buffers).is_err() {
                return;
            }
        }
    });
    let mut batch = Some(Vec::with_capacity(BATCH));
    visit("buffer, lent here and returned by another thread", BATCH as u64, &mut || {
        let mut buffers = batch.take().expect("it came back");
        buffers.extend(std::iter::from_fn(|| driver.buffer()).take(BATCH));
        give.send(buffers).expect("the thread lives");
        batch = emptied.recv().ok();
        keep(driver.pool_state());
    });
    drop(give);
    let _ = thread.join();
    Ok(())
}
