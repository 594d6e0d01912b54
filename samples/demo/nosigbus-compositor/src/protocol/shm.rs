// SPDX-License-Identifier: MIT OR Apache-2.0

//! wl_shm: checks the sizes and offsets that clients give for their pools and buffers.

use crate::{
    files::ClientFile,
    limits::{self, Kind, Share},
    pool::{Buffer, PIXEL, Pool, Shape},
    state::State,
};
use std::sync::Arc;
use wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, WEnum,
    protocol::{
        wl_buffer::{self, WlBuffer},
        wl_shm::{self, WlShm},
        wl_shm_pool::{self, WlShmPool},
    },
};

const FORMATS: [wl_shm::Format; 2] = [wl_shm::Format::Argb8888, wl_shm::Format::Xrgb8888];

impl GlobalDispatch<WlShm, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        client: &Client,
        shm: New<WlShm>,
        (): &(),
        init: &mut DataInit<'_, Self>,
    ) {
        let shm = limits::bind(client, shm, init);
        for format in FORMATS {
            shm.format(format);
        }
    }
}

impl Dispatch<WlShm, Share> for State {
    fn request(
        state: &mut Self,
        client: &Client,
        shm: &WlShm,
        request: wl_shm::Request,
        _: &Share,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let wl_shm::Request::CreatePool { id, fd, size } = request else {
            return;
        };
        let file = ClientFile::from(fd);
        let Some(len) = positive(size) else {
            shm.post_error(
                wl_shm::Error::InvalidStride,
                format!("a pool of {size} bytes"),
            );
            return;
        };
        if let Some(pool) = Pool::new(client, shm, file, len, state.files.clone()) {
            let pool = Arc::new(pool);
            state.pools.insert(pool.cookie, Arc::downgrade(&pool));
            init.init(id, pool);
        }
    }
}

impl Dispatch<WlShmPool, Arc<Pool>> for State {
    fn request(
        _: &mut Self,
        client: &Client,
        resource: &WlShmPool,
        request: wl_shm_pool::Request,
        pool: &Arc<Pool>,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_shm_pool::Request::CreateBuffer {
                id,
                offset,
                width,
                height,
                stride,
                format,
            } => match place(pool.len(), offset, [width, height, stride], format) {
                Ok((offset, shape)) => {
                    if let Some(share) = limits::take(client, Kind::Buffers, 1, resource) {
                        let pool = pool.clone();
                        let buffer = Buffer {
                            pool,
                            offset,
                            shape,
                            _share: share,
                        };
                        init.init(id, Arc::new(buffer));
                    }
                }
                Err((code, message)) => resource.post_error(code, message),
            },
            wl_shm_pool::Request::Resize { size } => match positive(size) {
                Some(len) if len >= pool.len() => pool.grow(len),
                _ => resource.post_error(
                    wl_shm::Error::InvalidFd,
                    format!("a pool of {} bytes cannot become one of {size}", pool.len()),
                ),
            },
            _ => {}
        }
    }
}

impl Dispatch<WlBuffer, Arc<Buffer>> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &WlBuffer,
        _: wl_buffer::Request,
        _: &Arc<Buffer>,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        // The only request is the one to destroy it.
    }
}

fn positive(number: i32) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0)
}

/// Returns where a buffer is in a pool of `len` bytes, if it is inside the pool.
fn place(
    len: usize,
    offset: i32,
    [width, height, stride]: [i32; 3],
    format: WEnum<wl_shm::Format>,
) -> Result<(usize, Shape), (wl_shm::Error, String)> {
    let format = match format {
        WEnum::Value(format) if FORMATS.contains(&format) => format,
        _ => {
            let message = format!("format {:#x}", u32::from(format));
            return Err((wl_shm::Error::InvalidFormat, message));
        }
    };
    let inside = || {
        let shape = Shape {
            width: positive(width)?,
            height: positive(height)?,
            stride: positive(stride)?,
            format,
        };
        let start = usize::try_from(offset).ok()?;
        let end = shape.stride.checked_mul(shape.height)?.checked_add(start)?;
        (shape.width.checked_mul(PIXEL)? <= shape.stride && end <= len).then_some((start, shape))
    };
    inside().ok_or_else(|| {
        let message = format!(
            "{width} x {height} pixels, {stride} bytes a line, from byte {offset}, in a pool of {len}"
        );
        (wl_shm::Error::InvalidStride, message)
    })
}
