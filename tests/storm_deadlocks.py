"""8 processes, objects of many kinds, random order with timeouts to get free... verdict check"""
import syncx, os, random, sys, time, signal
def storm(seed, secs, n):
    pids=[]
    for i in range(n):
        pid=os.fork()
        if pid==0:
            try: work(seed+i, secs)
            finally: os._exit(0)
        pids.append(pid)
    t=time.time()
    left=set(pids)
    while left and time.time()-t<secs+20:
        for p in list(left):
            q,_=os.waitpid(p,os.WNOHANG)
            if q: left.discard(p)
        time.sleep(.05)
    print('left',len(left), flush=True)
    if left:
        os.system(f"SYNCX_ARENA={os.environ['SYNCX_ARENA']} /tmp/det/.venv/bin/python -m syncx ps")
    for p in left: os.kill(p,9); os.waitpid(p,0)
def work(seed, secs):
    r=random.Random(seed)
    M=[syncx.Mutex(f'm{i}') for i in range(6)]
    RW=[syncx.RWLock(f'rw{i}') for i in range(3)]
    S=[syncx.BoundedSemaphore(2,name=f's{i}') for i in range(3)]
    F=[syncx.RangeLock('/tmp/dt/storm',i*10,12) for i in range(4)]
    FS=[syncx.RangeLock('/tmp/dt/storm',i*10,12,shared=True) for i in range(4)]
    end=time.monotonic()+secs
    got=dead=0
    def take():
        k=r.randrange(6)
        if k<2: o=r.choice(M); return o
        if k==2: return r.choice(RW).read()
        if k==3: return r.choice(RW).write()
        if k==4: return r.choice(S)
        return r.choice(F+FS)
    import contextlib
    while time.monotonic()<end:
        try:
            with contextlib.ExitStack() as st:
                for _ in range(r.randrange(1,5)):
                    st.enter_context(take())
                    if r.random()<.02: time.sleep(.001)
                got+=1
        except syncx.DeadlockError as e:
            dead+=1
    os.write(1,f"{got} {dead}\n".encode())
storm(int(sys.argv[1]),float(sys.argv[2]),int(sys.argv[3]))
