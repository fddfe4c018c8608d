/* fault.h - what can go wrong below a call; call.c says which CK_RV each becomes. */
#ifndef CONCLAVE_FAULT_H
#define CONCLAVE_FAULT_H

enum cv_fault {
    CV_FAULT_NONE,
    CV_FAULT_STOPPED,     /* cv_runtime_stop was called meanwhile, or we are a forked child */
    CV_FAULT_MEMORY,      /* the host has none left */
    CV_FAULT_CREDENTIALS, /* Chrystoki.conf, our certificate, key or CA file cannot be used */
    CV_FAULT_UNREACHABLE, /* no connection */
    CV_FAULT_IDENTITY,    /* whoever answered does not prove to be the cluster */
    CV_FAULT_REFUSED,     /* the member refused our certificate */
    CV_FAULT_PROTOCOL,    /* what came is not the protocol */
    CV_FAULT_BROKEN,      /* the connection ended before the answer */
    CV_FAULT_TIMEOUT,     /* no answer in time */
    CV_FAULT_STALE,       /* the member lives in an epoch that is over */
    CV_FAULT_BEHIND,      /* no member has what this process has seen */
    CV_FAULT_NO_OTHER     /* no member is left that was not asked to be passed over */
};

const char *cv_fault_name(enum cv_fault fault);

#endif
